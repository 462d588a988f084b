// Slots that are retired and restored at any time: experts keep their bytes, memory really goes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <vector>

#include "base/units.h"
#include "cache/expert_cache.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

class RetirementTest : public ::testing::Test {
 protected:
  int below(int end) { return std::uniform_int_distribution<int>(0, end - 1)(random_); }

  std::vector<int> random_ids(int experts, int count) {
    std::set<int> ids;
    while (static_cast<int>(ids.size()) < count) ids.insert(below(experts));
    return {ids.begin(), ids.end()};
  }

  /// Takes all that a lease has, and checks the bytes.
  void drain(int layer, Lease& lease, std::vector<int>& seen) {
    for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
      for (const ReadyExpert& ready : batch) {
        EXPECT_TRUE(file_.holds(layer, ready)) << "layer " << layer << ", expert " << ready.id;
        seen.push_back(ready.id);
      }
    }
    std::sort(seen.begin(), seen.end());
  }

  static int residents(const ExpertCache& cache, int layer) {
    int count = 0;
    for (int expert = 0; expert < cache.experts(layer); ++expert) count += cache.resident(layer, expert) ? 1 : 0;
    return count;
  }

  std::mt19937 random_{11};
  // Two layers share an arena, the third has fewer experts and one of its own.
  ExpertFile file_{{{20, {6000, 9000, 130}}, {20, {6000, 9000, 130}}, {6, {12000, 40}}}};
  stream::Reader reader_ = file_.reader(3);
};

TEST_F(RetirementTest, EveryExpertKeepsItsBytesWheneverSlotsComeAndGo) {
  for (const char* policy : {"decay", "lru"}) {
    ExpertCache cache(file_.layers(), {.slots_per_layer = 12, .policy = policy}, reader_);
    for (std::uint64_t step = 1; step < 600; ++step) {
      const int layer = below(3);
      const std::vector<int> ids = random_ids(cache.experts(layer), 1 + below(5));
      std::vector<int> seen;
      {
        Lease lease = cache.acquire(layer, ids, Phase::decode, step);
        drain(layer, lease, seen);
      }
      EXPECT_EQ(seen, ids);
      if (below(3) > 0) continue;
      const int slots = 1 + below(12);
      cache.use_slots(slots);
      for (int l = 0; l < 3; ++l) {
        EXPECT_EQ(cache.slots_in_use(l), std::min(slots, cache.slots(l)));
        EXPECT_LE(residents(cache, l), slots);
      }
    }
    EXPECT_GT(cache.slots_retired(), 100u);
    const LookupCounts counts = cache.counts(Phase::decode);
    EXPECT_EQ(counts.hits + counts.misses_cold + counts.misses_capacity, counts.lookups);
    EXPECT_GT(counts.hits, 0u);
  }
}

TEST_F(RetirementTest, WhatALeaseHoldsStaysWhereItIs) {
  for (int round = 0; round < 200; ++round) {
    ExpertCache cache(file_.layers(), {.slots_per_layer = 10}, reader_);
    for (std::uint64_t step = 1; step < 4; ++step) {
      for (int layer = 0; layer < 2; ++layer) {
        std::vector<int> seen;
        Lease lease = cache.acquire(layer, random_ids(20, 4), Phase::decode, step);
        drain(layer, lease, seen);
      }
    }
    Lease lease = cache.acquire(0, random_ids(20, 4), Phase::decode, 5);
    std::vector<ReadyExpert> held;
    for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
      held.insert(held.end(), batch.begin(), batch.end());
    }
    cache.use_slots(1 + below(3));
    EXPECT_GE(cache.slots_in_use(0), 4) << "pinned slots stay in use";
    for (const ReadyExpert& ready : held) EXPECT_TRUE(file_.holds(0, ready));
    if (round % 2 == 0) cache.use_slots(10);
    for (const ReadyExpert& ready : held) EXPECT_TRUE(file_.holds(0, ready));
  }
}

TEST_F(RetirementTest, PinnedSlotsGoWhenTheirLeaseHasGone) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 6}, reader_);
  {
    std::vector<int> seen;
    Lease lease = cache.acquire(0, std::vector{1, 2, 3, 4, 5}, Phase::decode, 1);
    drain(0, lease, seen);
    cache.use_slots(2);
    EXPECT_EQ(cache.slots_in_use(0), 5);
    EXPECT_EQ(cache.slots_in_use(1), 2);
  }
  cache.use_slots(2);
  EXPECT_EQ(cache.slots_in_use(0), 2);
}

TEST_F(RetirementTest, ThePolicysVictimsLeaveFirst) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4, .policy = "lru"}, reader_);
  for (const int expert : {3, 1, 4, 2}) {
    std::vector<int> seen;
    static std::uint64_t step = 0;
    Lease lease = cache.acquire(0, std::vector{expert}, Phase::decode, ++step);
    drain(0, lease, seen);
  }
  cache.use_slots(2);
  EXPECT_TRUE(cache.resident(0, 4));
  EXPECT_TRUE(cache.resident(0, 2));
}

TEST_F(RetirementTest, ARequestLargerThanWhatIsLeftGoesThroughInWaves) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 8}, reader_);
  cache.use_slots(3);
  std::vector<int> seen;
  const std::vector<int> ids = random_ids(20, 15);
  Lease lease = cache.acquire(0, ids, Phase::prefill, 1);
  drain(0, lease, seen);
  EXPECT_EQ(seen, ids);
  EXPECT_EQ(residents(cache, 0), 3);
}

/// Resident bytes of this process.
std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(Retirement, GivesTheMemoryBackAndTakesItAgain) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory blurs the figure";
#endif
  constexpr std::uint64_t kPart = 700'000;
  ExpertFile file({{16, {kPart, kPart, kPart}}, {16, {kPart, kPart, kPart}}});
  stream::Reader reader = file.reader(3);
  ExpertCache cache(file.layers(), {.slots_per_layer = 16}, reader);
  std::uint64_t step = 0;
  const auto load_all = [&](int layer) {
    std::vector<int> all(16);
    for (int i = 0; i < 16; ++i) all[static_cast<std::size_t>(i)] = i;
    Lease lease = cache.acquire(layer, all, Phase::prefill, ++step);
    while (!lease.next().empty()) {
    }
  };
  load_all(0);
  load_all(1);
  const std::uint64_t full = resident_bytes();
  const std::uint64_t expected = cache.slot_bytes() * 3 / 4;
  cache.use_slots(4);
  const std::uint64_t shrunk = resident_bytes();
  // At the border of what stays, a part of a huge page stays too.
  EXPECT_GE(full, shrunk + expected - 4 * kMiB);
  cache.use_slots(16);
  EXPECT_GE(resident_bytes(), full - 4 * kMiB) << "touched before the next token, not during it";
  for (int layer = 0; layer < 2; ++layer) {
    load_all(layer);
    EXPECT_EQ(cache.slots_in_use(layer), 16);
  }
}

}  // namespace
}  // namespace sluice::cache
