#include "cache/part_reads.h"

#include <algorithm>

#include "base/memory.h"

namespace sluice::cache {

std::size_t max_part_reads(std::uint64_t bytes) { return round_up(bytes, kMaxReadBytes) / kMaxReadBytes; }

std::uint32_t append_part_reads(const Slice& slice, std::byte* region, std::uint64_t tag,
                                std::vector<stream::Read>& reads) {
  const stream::Window window = stream::window(slice.offset, slice.bytes);
  // Equal pieces: cutting at the limit would leave a small last read whenever the window is just above it.
  const std::uint64_t pieces = max_part_reads(slice.bytes);
  const std::uint64_t piece = round_up((window.length + pieces - 1) / pieces, kIoAlignment);
  const std::uint64_t end = window.shift + slice.bytes;  // of the wanted bytes, in the window
  for (std::uint64_t begin = 0; begin < window.length; begin += piece) {
    const std::uint64_t length = std::min<std::uint64_t>(piece, window.length - begin);
    reads.push_back({.file = slice.file,
                     .offset = window.offset + begin,
                     .length = static_cast<std::uint32_t>(length),
                     .needed = static_cast<std::uint32_t>(std::min(length, end - begin)),
                     .dest = region + begin,
                     .tag = tag});
  }
  return window.shift;
}

}  // namespace sluice::cache
