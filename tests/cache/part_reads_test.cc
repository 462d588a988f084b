#include "cache/part_reads.h"

#include <gtest/gtest.h>

#include <random>

#include "base/memory.h"
#include "cache/expert_cache.h"
#include "cache/slot_arena.h"

namespace sluice::cache {
namespace {

std::vector<Slice> slices() {
  std::vector<Slice> all;
  const std::vector<std::uint64_t> sizes = {
      1, 130, 4095, 4096, 4097, kMaxReadBytes - 1, kMaxReadBytes, kMaxReadBytes + 1, 2 * kMaxReadBytes, 7'654'321};
  for (const std::uint64_t bytes : sizes) {
    for (const std::uint64_t offset : {0, 1, 4095, 4096, 81'920, 123'457}) all.push_back({3, offset, bytes});
  }
  std::mt19937_64 random(5);
  for (int i = 0; i < 200; ++i) all.push_back({3, random() % (1ULL << 40), 1 + random() % (5 * kMaxReadBytes)});
  return all;
}

TEST(PartReads, TileTheAlignedWindowInEqualPieces) {
  for (const Slice& slice : slices()) {
    std::byte* const region = nullptr;
    std::vector<stream::Read> reads;
    const std::uint32_t shift = append_part_reads(slice, region, 42, reads);
    const stream::Window window = stream::window(slice.offset, slice.bytes);
    EXPECT_EQ(shift, window.shift);
    ASSERT_FALSE(reads.empty());
    EXPECT_LE(reads.size(), max_part_reads(slice.bytes));
    std::uint64_t at = window.offset;
    for (const stream::Read& read : reads) {
      EXPECT_EQ(read.file, 3);
      EXPECT_EQ(read.tag, 42u);
      EXPECT_EQ(read.offset, at);
      EXPECT_EQ(static_cast<std::uint64_t>(read.dest - region), at - window.offset);
      EXPECT_EQ(read.offset % kIoAlignment, 0u);
      EXPECT_EQ(read.length % kIoAlignment, 0u);
      EXPECT_LE(read.length, kMaxReadBytes + 2 * kIoAlignment);
      EXPECT_LE(read.length, reads.front().length);
      at += read.length;
    }
    EXPECT_EQ(at, window.offset + window.length);
  }
}

TEST(PartReads, NeedExactlyTheBytesUpToTheEndOfTheSlice) {
  for (const Slice& slice : slices()) {
    std::vector<stream::Read> reads;
    append_part_reads(slice, nullptr, 0, reads);
    for (std::size_t i = 0; i + 1 < reads.size(); ++i) EXPECT_EQ(reads[i].needed, reads[i].length);
    EXPECT_EQ(reads.back().offset + reads.back().needed, slice.offset + slice.bytes);
  }
}

TEST(PartReads, AreAppended) {
  std::vector<stream::Read> reads(2);
  append_part_reads({0, 10, 20}, nullptr, 7, reads);
  ASSERT_EQ(reads.size(), 3u);
  EXPECT_EQ(reads.back().tag, 7u);
}

TEST(SlotLayout, TakesTheWindowOfEverySliceWithSlackBehindIt) {
  for (const Slice& slice : slices()) {
    // The slice between two others: its region must end where the next begins.
    LayerExperts layer{.experts = 1, .parts = 3, .slices = {{0, 0, 777}, slice, {0, 0, 5000}}};
    const SlotLayout layout(layer);
    const stream::Window window = stream::window(slice.offset, slice.bytes);
    const std::uint64_t region = layout.part_offset[2] - layout.part_offset[1];
    EXPECT_LE(window.length, region);
    EXPECT_LE(window.shift + slice.bytes + 4096, region);
    for (const std::uint64_t offset : layout.part_offset) EXPECT_EQ(offset % kIoAlignment, 0u);
    EXPECT_EQ(layout.capacity, slot_capacity(layer));
  }
}

TEST(SlotLayout, IsTheSumOfTheSlicesPlusEightKiBEach) {
  const LayerExperts layer{.experts = 1, .parts = 2, .slices = {{0, 0, 4096}, {0, 0, 4097}}};
  EXPECT_EQ(slot_capacity(layer), 4096u + 8192 + 8192 + 8192);
}

TEST(SlotArena, SlotsLieSideBySideAligned) {
  const SlotLayout layout(LayerExperts{.experts = 1, .parts = 1, .slices = {{0, 0, 100}}});
  const SlotArena arena(layout, 3);
  for (int slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(static_cast<std::uint64_t>(arena.slot(slot) - arena.slot(0)),
              static_cast<std::uint64_t>(slot) * layout.capacity);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.slot(slot)) % kIoAlignment, 0u);
  }
}

}  // namespace
}  // namespace sluice::cache
