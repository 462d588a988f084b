// Checkpoint files mapped read-only: bytes are fetched by the kernel, page by page, when something touches them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <string_view>
#include <vector>

#include "stream/mapping_faults.h"

namespace sluice::stream {

/// As --io names it, beside the engines: none of them, because nothing is read by a call.
inline constexpr std::string_view kMmap = "mmap";

/// Bytes behind the end of a file that may be read too, as zeros. Kernels read a little ahead of what they need.
inline constexpr std::uint64_t kMappingSlack = 4096;

/// Owns the mappings. Reading is safe from any number of threads; adding is not. A file that is truncated meanwhile, or
/// cannot be read, ends the process: see mapping_faults.h.
class MappedFiles {
 public:
  MappedFiles() = default;
  ~MappedFiles();
  MappedFiles(const MappedFiles&) = delete;
  MappedFiles& operator=(const MappedFiles&) = delete;

  /// Maps a file; the first gets index 0, the next 1, and so on, as with Reader::add_file. What the page cache holds of
  /// it is dropped first: a run begins cold with every engine. Throws Error naming it.
  int add_file(const std::filesystem::path& path);

  /// Where bytes [offset, offset + bytes) of a file lie, until this object goes. kMappingSlack bytes behind them may be
  /// read. Throws Error naming the file if it was shorter than that when it was mapped.
  const std::byte* at(int file, std::uint64_t offset, std::uint64_t bytes) const;

 private:
  struct Mapping {
    std::filesystem::path path;
    std::byte* data;      // page-aligned; whole pages, the slack included
    std::size_t mapped;   // bytes of it
    std::uint64_t bytes;  // of the file
  };
  std::vector<Mapping> mappings_;
  std::list<WatchedMapping> watched_;  // one each
};

}  // namespace sluice::stream
