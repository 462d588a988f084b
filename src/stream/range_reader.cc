#include "stream/range_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"
#include "stream/reader.h"

namespace sluice::stream {
namespace {

// Large enough for most of a drive's rate with a few threads, small enough to be mapped anew for each read.
constexpr std::uint64_t kPieceBytes = kMiB;

/// Reads at least the first `needed` bytes of `dest`. The last transfer of a file may end inside a sector, after which
/// direct I/O could not go on; so it ends when there is enough.
void read_window(const InputFile& file, std::uint64_t offset, std::span<std::byte> dest, std::size_t needed) {
  std::size_t arrived = 0;
  while (arrived < needed) {
    const ssize_t result =
        ::pread(file.descriptor(), dest.data() + arrived, dest.size() - arrived, static_cast<off_t>(offset + arrived));
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) {
      fail("{}: cannot be read at byte {}: {}", file.path().string(), offset + arrived, std::strerror(errno));
    }
    if (result == 0) {
      fail("{}: ends at byte {}, expected {}: changed since it was opened", file.path().string(), offset + arrived,
           offset + needed);
    }
    arrived += static_cast<std::size_t>(result);
  }
}

void read_direct(const InputFile& file, std::uint64_t offset, std::span<std::byte> dest) {
  const Buffer buffer =
      Buffer::allocate(std::min(dest.size(), kPieceBytes - kIoAlignment) + 2 * kIoAlignment, "a copy of a file");
  while (!dest.empty()) {
    const std::size_t count = std::min<std::size_t>(dest.size(), kPieceBytes - kIoAlignment);
    const Window window = stream::window(offset, count);
    read_window(file, window.offset, buffer.bytes().first(window.length), window.shift + count);
    std::memcpy(dest.data(), buffer.data() + window.shift, count);
    dest = dest.subspan(count);
    offset += count;
  }
}

}  // namespace

RangeReader::RangeReader(std::span<const FileInfo> files)
    : direct_(Reader::open("", files.front().path, 1).choice().direct) {
  for (const FileInfo& file : files) files_.push_back(InputFile::open(file.path, direct_));
}

void RangeReader::read(int file, std::uint64_t offset, std::span<std::byte> dest) const {
  const InputFile& input = files_[static_cast<std::size_t>(file)];
  if (direct_) {
    read_direct(input, offset, dest);
    return;
  }
  read_window(input, offset, dest, dest.size());
  // A page that stays would push out others and will not be read again.
  posix_fadvise(input.descriptor(), static_cast<off_t>(offset), static_cast<off_t>(dest.size()), POSIX_FADV_DONTNEED);
}

}  // namespace sluice::stream
