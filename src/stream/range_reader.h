// Plain reads of any range of a checkpoint's files, from many threads, around the page cache: for copying.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "stream/checkpoint.h"
#include "stream/input_file.h"

namespace sluice::stream {

/// Owns the descriptors. Immutable, so safe to share between threads.
class RangeReader {
 public:
  /// Opens the files, with O_DIRECT if a transfer works that way. There is at least one. Throws Error naming the file.
  explicit RangeReader(std::span<const FileInfo> files);

  /// Fills `dest` from bytes `offset` on of the file with that index. Takes about 1 MiB of memory beside it. Throws
  /// Error naming the file if it cannot be read or ends before.
  void read(int file, std::uint64_t offset, std::span<std::byte> dest) const;

 private:
  std::vector<InputFile> files_;
  bool direct_;
};

}  // namespace sluice::stream
