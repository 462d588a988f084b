#include "stream/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace sluice::stream {

InputFile InputFile::open(const std::filesystem::path& path, bool direct) {
  struct stat status {};
  // Asked before opening, because opening a FIFO would wait for its writer.
  if (stat(path.c_str(), &status) != 0) fail("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail("{}: is not a regular file", path.string());
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (descriptor < 0) {
    fail("{}: cannot be opened{}: {}", path.string(), direct ? " with O_DIRECT" : "", std::strerror(errno));
  }
  // Read-ahead would fill the page cache with what nobody asked for: behind a header lie tensors, behind an expert
  // others.
  if (!direct) posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM);
  return InputFile(descriptor, path, static_cast<std::uint64_t>(status.st_size));
}

InputFile::InputFile(int descriptor, std::filesystem::path path, std::uint64_t bytes)
    : descriptor_(descriptor), path_(std::move(path)), bytes_(bytes) {}

InputFile::InputFile(InputFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)), bytes_(other.bytes_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::size_t InputFile::read_at(std::uint64_t offset, std::span<std::byte> dest) const {
  std::size_t arrived = 0;
  while (arrived < dest.size()) {
    const ssize_t result =
        pread(descriptor_, dest.data() + arrived, dest.size() - arrived, static_cast<off_t>(offset + arrived));
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) fail("{}: cannot be read at byte {}: {}", path_.string(), offset + arrived, std::strerror(errno));
    if (result == 0) break;
    arrived += static_cast<std::size_t>(result);
  }
  return arrived;
}

}  // namespace sluice::stream
