#include "cache/part_reads.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "base/memory.h"

namespace sluice::cache {
namespace {

// Longest range: stream::window() takes less than 2 GiB.
constexpr std::uint64_t kMaxRangeBytes = kGiB;

std::uint64_t max_reads(std::uint64_t bytes) { return round_up(bytes, kMaxReadBytes) / kMaxReadBytes; }

// Calls take(range, its parts) for each range that an expert is read in.
template <typename Take>
void for_each_range(const LayerExperts& layer, std::span<const int> order, int expert, const Take& take) {
  for (std::size_t begin = 0; begin < order.size();) {
    Slice range = layer.slice(expert, order[begin]);
    std::size_t end = begin + 1;
    for (; end < order.size(); ++end) {
      const Slice& next = layer.slice(expert, order[end]);
      const std::uint64_t range_end = range.offset + range.bytes;
      if (next.file != range.file || next.offset < range_end || next.offset - range_end >= kIoAlignment) break;
      const std::uint64_t bytes = next.offset + next.bytes - range.offset;
      if (bytes > kMaxRangeBytes) break;
      range.bytes = bytes;
    }
    take(range, order.subspan(begin, end - begin));
    begin = end;
  }
}

// Reads the window, in equal pieces: cutting at the limit would leave a small last read whenever it is just above it.
void append_reads(const Slice& range, const stream::Window& window, std::byte* dest, std::uint64_t tag,
                  std::vector<stream::Read>& reads) {
  const std::uint64_t pieces = max_reads(range.bytes);
  const std::uint64_t piece = round_up((window.length + pieces - 1) / pieces, kIoAlignment);
  const std::uint64_t end = window.shift + range.bytes;  // of the wanted bytes, in the window
  for (std::uint64_t begin = 0; begin < window.length; begin += piece) {
    const std::uint64_t length = std::min<std::uint64_t>(piece, window.length - begin);
    reads.push_back({.file = range.file,
                     .offset = window.offset + begin,
                     .length = static_cast<std::uint32_t>(length),
                     .needed = static_cast<std::uint32_t>(std::min(length, end - begin)),
                     .dest = dest + begin,
                     .tag = tag});
  }
}

}  // namespace

// A window starts at most kIoAlignment - 1 bytes before its slice, so it can be one unit longer than the rounded slice;
// the second unit is the slack behind it. A range of several parts needs no more than they do one by one: less than
// one unit lies between two.
std::uint64_t part_room(std::uint64_t bytes) { return round_up(bytes, kIoAlignment) + 2 * kIoAlignment; }

std::vector<int> file_order(const LayerExperts& layer) {
  std::vector<int> order(static_cast<std::size_t>(layer.parts));
  std::iota(order.begin(), order.end(), 0);
  const auto place = [&layer](int part) { return std::tie(layer.slice(0, part).file, layer.slice(0, part).offset); };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return place(a) < place(b); });
  return order;
}

std::size_t max_expert_reads(const LayerExperts& layer) {
  std::size_t reads = 0;  // of parts that stand alone; one range of them, with what is between, takes no more
  for (int part = 0; part < layer.parts; ++part) reads += max_reads(layer.slice(0, part).bytes + kIoAlignment);
  return reads;
}

std::uint64_t append_expert_reads(const LayerExperts& layer, std::span<const int> order, int expert, std::byte* memory,
                                  std::uint64_t tag, const std::byte** parts, std::vector<stream::Read>& reads) {
  std::uint64_t requested = 0;
  for_each_range(layer, order, expert, [&](const Slice& range, std::span<const int> of_range) {
    const stream::Window window = stream::window(range.offset, range.bytes);
    append_reads(range, window, memory, tag, reads);
    requested += window.length;
    const std::byte* const begin = memory + window.shift;
    for (const int part : of_range) {
      const Slice& slice = layer.slice(expert, part);
      parts[part] = begin + (slice.offset - range.offset);
      memory += part_room(slice.bytes);
    }
  });
  return requested;
}

int range_count(const LayerExperts& layer, int expert) {
  int count = 0;
  for_each_range(layer, file_order(layer), expert, [&count](const Slice&, std::span<const int>) { ++count; });
  return count;
}

std::uint64_t mean_read_bytes(const LayerExperts& layer) {
  const std::vector<int> order = file_order(layer);
  std::uint64_t bytes = 0;
  for (int expert = 0; expert < layer.experts; ++expert) {
    for_each_range(layer, order, expert, [&bytes](const Slice& range, std::span<const int>) {
      bytes += stream::window(range.offset, range.bytes).length;
    });
  }
  return bytes / static_cast<std::uint64_t>(layer.experts);
}

}  // namespace sluice::cache
