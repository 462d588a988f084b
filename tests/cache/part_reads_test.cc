#include "cache/part_reads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
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

LayerExperts one_expert(std::vector<Slice> parts) {
  return {.experts = 1, .parts = static_cast<int>(parts.size()), .slices = std::move(parts)};
}

/// The reads of an expert, as if its slot began at address 0, and where its parts come to lie.
struct Planned {
  std::vector<stream::Read> reads;
  std::vector<std::uint64_t> parts;  // bytes from the beginning of the slot
  std::uint64_t requested = 0;
};

Planned plan(const LayerExperts& layer, int expert = 0) {
  std::byte* const slot = nullptr;
  std::vector<const std::byte*> parts(static_cast<std::size_t>(layer.parts));
  Planned planned;
  planned.requested = append_expert_reads(layer, file_order(layer), expert, slot, 42, parts.data(), planned.reads);
  for (const std::byte* part : parts) planned.parts.push_back(static_cast<std::uint64_t>(part - slot));
  return planned;
}

TEST(PartReads, TileTheAlignedWindowInEqualPieces) {
  for (const Slice& slice : slices()) {
    const auto [reads, parts, requested] = plan(one_expert({slice}));
    const stream::Window window = stream::window(slice.offset, slice.bytes);
    EXPECT_EQ(parts[0], window.shift);
    EXPECT_EQ(requested, window.length);
    ASSERT_FALSE(reads.empty());
    std::uint64_t at = window.offset;
    for (const stream::Read& read : reads) {
      EXPECT_EQ(read.file, 3);
      EXPECT_EQ(read.tag, 42u);
      EXPECT_EQ(read.offset, at);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.dest), at - window.offset);
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
    const std::vector<stream::Read> reads = plan(one_expert({slice})).reads;
    for (std::size_t i = 0; i + 1 < reads.size(); ++i) EXPECT_EQ(reads[i].needed, reads[i].length);
    EXPECT_EQ(reads.back().offset + reads.back().needed, slice.offset + slice.bytes);
  }
}

TEST(PartReads, AreAppended) {
  const LayerExperts layer = one_expert({{0, 10, 20}});
  std::vector<stream::Read> reads(2);
  const std::byte* part = nullptr;
  append_expert_reads(layer, file_order(layer), 0, nullptr, 7, &part, reads);
  ASSERT_EQ(reads.size(), 3u);
  EXPECT_EQ(reads.back().tag, 7u);
}

TEST(PartReads, FileOrderIsThatOfFilesAndThenOfOffsets) {
  EXPECT_EQ(file_order(one_expert({{1, 0, 5}, {0, 900, 5}, {0, 100, 5}, {1, 700, 5}})), (std::vector<int>{2, 1, 0, 3}));
}

TEST(PartReads, OneReadTakesPartsThatLieTogetherWhateverTheirOrder) {
  const LayerExperts layer = one_expert({{0, 50'300, 200}, {0, 50'100, 200}, {0, 50'000, 100}});
  const Planned planned = plan(layer);
  ASSERT_EQ(planned.reads.size(), 1u);
  const stream::Window window = stream::window(50'000, 500);
  EXPECT_EQ(planned.reads[0].offset, window.offset);
  EXPECT_EQ(planned.reads[0].needed, window.shift + 500u);
  EXPECT_EQ(planned.requested, window.length);
  const std::uint64_t first = window.shift;
  EXPECT_EQ(planned.parts, (std::vector<std::uint64_t>{first + 300, first + 100, first}));
}

TEST(PartReads, LessThanABlockBetweenPartsIsReadWithThem) {
  EXPECT_EQ(plan(one_expert({{0, 0, 4096}, {0, 4096 + 4095, 100}})).reads.size(), 1u);
  EXPECT_EQ(plan(one_expert({{0, 0, 4096}, {0, 4096 + 4096, 100}})).reads.size(), 2u);
}

TEST(PartReads, ARangeIsOneHoweverManyReadsItTakes) {
  const LayerExperts layer = one_expert({{0, 2 * kMaxReadBytes + 50, kMaxReadBytes}, {0, 0, 2 * kMaxReadBytes}});
  EXPECT_EQ(range_count(layer, 0), 1);
  EXPECT_GT(plan(layer).reads.size(), 2u);
}

TEST(PartReads, OtherFilesAndRangesBeyondAGigabyteAreReadApart) {
  EXPECT_EQ(plan(one_expert({{0, 0, 4096}, {1, 4096, 100}})).reads.size(), 2u);
  const LayerExperts large = one_expert({{0, 0, kGiB - 100}, {0, kGiB - 100, 101}});
  EXPECT_EQ(plan(large).reads.size(), kGiB / kMaxReadBytes + 1);
}

// A shard may end between the parts of one expert, so the experts of a layer need not be alike.
TEST(PartReads, EachExpertIsReadAsItLies) {
  LayerExperts layer{.experts = 3,
                     .parts = 2,
                     .slices = {{0, 0, 100},
                                {0, 100, 100},  //
                                {0, 200, 100},
                                {1, 0, 100},  //
                                {1, 300, 100},
                                {1, 100, 100}}};
  EXPECT_EQ(plan(layer, 0).reads.size(), 1u);
  EXPECT_EQ(plan(layer, 1).reads.size(), 2u);
  EXPECT_EQ(plan(layer, 2).reads.size(), 2u);  // in another order than those of expert 0
  EXPECT_EQ(range_count(layer, 0), 1);
  EXPECT_EQ(range_count(layer, 1), 2);
  EXPECT_EQ(range_count(layer, 2), 2);
  EXPECT_EQ(mean_read_bytes(layer), (1 + 2 + 2) * 4096u / 3);
}

/// What an expert of any shape may look like: parts in some order, together, nearly together or apart.
LayerExperts random_expert(std::mt19937_64& random) {
  const int parts = 1 + static_cast<int>(random() % 9);
  std::vector<int> order(static_cast<std::size_t>(parts));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<Slice> slices(order.size());
  int file = 0;
  std::uint64_t offset = random() % 10'000;
  for (const int part : order) {
    const std::uint64_t bytes = 1 + random() % (random() % 4 == 0 ? 3 * kMaxReadBytes : 10'000);
    slices[static_cast<std::size_t>(part)] = {file, offset, bytes};
    const std::uint64_t gaps[] = {0, 0, random() % 4096, 4095, random() % 100'000};
    offset += bytes + gaps[random() % 5];
    if (random() % 8 == 0) ++file, offset = random() % 10'000;
  }
  return one_expert(std::move(slices));
}

// Whatever lies together: every byte of a part is read to where the part starts, no two reads touch the same memory,
// all of it is the slot's, and 4 KiB behind a part are too.
TEST(PartReads, BringEveryPartOfAnyExpertIntoTheSlot) {
  std::mt19937_64 random(11);
  for (int trial = 0; trial < 2'000; ++trial) {
    const LayerExperts layer = random_expert(random);
    const Planned planned = plan(layer);
    const std::uint64_t capacity = slot_capacity(layer);
    EXPECT_LE(planned.reads.size(), max_expert_reads(layer));
    EXPECT_EQ(planned.requested, mean_read_bytes(layer));
    std::uint64_t requested = 0;
    std::uint64_t free_from = 0;
    for (const stream::Read& read : planned.reads) {
      const auto dest = reinterpret_cast<std::uintptr_t>(read.dest);
      EXPECT_GE(dest, free_from);
      EXPECT_EQ(dest % kIoAlignment, 0u);
      EXPECT_EQ(read.offset % kIoAlignment, 0u);
      EXPECT_EQ(read.length % kIoAlignment, 0u);
      free_from = dest + read.length;
      requested += read.length;
    }
    EXPECT_LE(free_from, capacity);
    EXPECT_EQ(planned.requested, requested);
    for (int part = 0; part < layer.parts; ++part) {
      const Slice& slice = layer.slice(0, part);
      const std::uint64_t at = planned.parts[static_cast<std::size_t>(part)];
      EXPECT_LE(at + slice.bytes + 4096, capacity);
      std::uint64_t covered = 0;
      for (const stream::Read& read : planned.reads) {
        if (read.file != slice.file) continue;
        const std::uint64_t begin = std::max(read.offset, slice.offset);
        const std::uint64_t end = std::min(read.offset + read.needed, slice.offset + slice.bytes);
        if (begin >= end) continue;
        if (at - slice.offset != reinterpret_cast<std::uintptr_t>(read.dest) - read.offset) continue;
        covered += end - begin;
      }
      EXPECT_EQ(covered, slice.bytes);
    }
  }
}

TEST(SlotLayout, IsTheSumOfTheSlicesPlusEightKiBEach) {
  EXPECT_EQ(slot_capacity(one_expert({{0, 0, 4096}, {0, 0, 4097}})), 4096u + 8192 + 8192 + 8192);
}

TEST(SlotArena, SlotsLieSideBySideAligned) {
  const SlotLayout layout(one_expert({{0, 0, 100}}));
  const SlotArena arena(layout, 3);
  for (int slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(static_cast<std::uint64_t>(arena.slot(slot) - arena.slot(0)),
              static_cast<std::uint64_t>(slot) * layout.capacity);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.slot(slot)) % kIoAlignment, 0u);
  }
}

}  // namespace
}  // namespace sluice::cache
