#include "stream/mapped_files.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/memory.h"
#include "stream/input_file.h"

namespace sluice::stream {

MappedFiles::~MappedFiles() {
  watched_.clear();
  for (const Mapping& mapping : mappings_) munmap(mapping.data, mapping.mapped);
}

int MappedFiles::add_file(const std::filesystem::path& path) {
  const InputFile file = InputFile::open(path);  // a mapping outlives the descriptor that it was made from
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  // Touching a page wholly behind the end of a file is a fault, so the file lies over the beginning of plain memory.
  const std::size_t mapped = round_up(file.bytes() + kMappingSlack, kIoAlignment);
  void* address = mmap(nullptr, mapped, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) fail("{}: cannot be mapped: {}", path.string(), std::strerror(errno));
  auto* data = static_cast<std::byte*>(address);
  if (file.bytes() > 0 &&
      mmap(data, file.bytes(), PROT_READ, MAP_SHARED | MAP_FIXED, file.descriptor(), 0) == MAP_FAILED) {
    const int error = errno;
    munmap(data, mapped);
    fail("{}: cannot be mapped: {}", path.string(), std::strerror(error));
  }
  mappings_.push_back({path, data, mapped, file.bytes()});
  watched_.emplace_back(data, mapped, path);
  return static_cast<int>(mappings_.size()) - 1;
}

const std::byte* MappedFiles::at(int file, std::uint64_t offset, std::uint64_t bytes) const {
  const Mapping& mapping = mappings_[static_cast<std::size_t>(file)];
  if (offset > mapping.bytes || bytes > mapping.bytes - offset) {
    fail("{}: ends at byte {}, expected {} or more: changed while it was opened", mapping.path.string(), mapping.bytes,
         offset + bytes);
  }
  return mapping.data + offset;
}

}  // namespace sluice::stream
