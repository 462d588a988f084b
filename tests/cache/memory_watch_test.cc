// The watch over scripted kernels and a clock that the test turns.
#include "cache/memory_watch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

#include "base/units.h"

namespace sluice::cache {
namespace {

constexpr int kMost = 64;
constexpr int kLeast = 8;
constexpr std::uint64_t kRow = 32 * kMiB;

class MemoryWatchTest : public ::testing::Test {
 protected:
  MemoryWatchTest() { kernel_.available.bytes = 8 * kGiB; }

  /// Lets `seconds` pass in samples, with so many faults and so large a share of stalls; the slots after each change.
  std::vector<int> pass(double seconds, double faults_per_second = 0, double stall_share = 0) {
    std::vector<int> changes;
    for (const double end = now_ + seconds - kSampleSeconds / 2; now_ < end;) {
      now_ += kSampleSeconds;
      kernel_.major_faults += static_cast<std::uint64_t>(faults_per_second * kSampleSeconds);
      *kernel_.stall_microseconds += static_cast<std::uint64_t>(stall_share * 1e6 * kSampleSeconds);
      if (const auto advice = watch_.poll()) {
        changes.push_back(advice->slots);
        EXPECT_FALSE(advice->reason.empty());
      }
    }
    return changes;
  }

  MemoryPressure read() {
    ++reads_;
    if (broken_) throw std::runtime_error("no /proc");
    return kernel_;
  }

  double now_ = 1000;
  int reads_ = 0;
  bool broken_ = false;
  MemoryPressure kernel_{.major_faults = 7, .stall_microseconds = 99, .available = {}};
  MemoryWatch watch_{
      {.most = kMost, .least = kLeast, .row_bytes = kRow}, [this] { return read(); }, [this] { return now_; }};
};

TEST_F(MemoryWatchTest, WithoutASignNothingChanges) { EXPECT_TRUE(pass(1000, 4, 0.02).empty()); }

TEST_F(MemoryWatchTest, ReadsTheKernelAtABoundedRate) {
  for (int i = 0; i < 1000; ++i) {
    now_ += 0.001;
    watch_.poll();
  }
  EXPECT_GE(reads_, 9);
  EXPECT_LE(reads_, 10);
}

TEST_F(MemoryWatchTest, WhatIsMissingIsGivenBackAtOnce) {
  kernel_.available.bytes = 100 * kMiB;  // the high mark is 384 MiB: 284 are missing, 9 rows
  EXPECT_EQ(pass(kSampleSeconds), std::vector{kMost - 9});
  kernel_.available.bytes += 9 * kRow;
  EXPECT_TRUE(pass(5).empty()) << "the machine has what it needs";
}

TEST_F(MemoryWatchTest, AGroupMayBeFilledFurther) {
  kernel_.available = {100 * kMiB, "memory.max", true};
  EXPECT_TRUE(pass(5).empty()) << "what was planned may fill the group";
  kernel_.available.bytes = 15 * kMiB;
  kernel_.resident_bytes = 85 * kMiB;  // it is this process that took it
  EXPECT_EQ(pass(kSampleSeconds), std::vector{kMost - 2});
}

TEST_F(MemoryWatchTest, NeverGoesBelowTheLeast) {
  kernel_.available.bytes = 0;
  const std::vector<int> changes = pass(60, 1000, 1);
  ASSERT_FALSE(changes.empty());
  EXPECT_TRUE(std::is_sorted(changes.rbegin(), changes.rend()));
  EXPECT_EQ(changes.back(), kLeast);
}

TEST_F(MemoryWatchTest, PagingTakesSlotsAwayUntilItEnds) {
  const std::vector<int> changes = pass(6, 500);
  ASSERT_GT(changes.size(), 5u);
  EXPECT_EQ(changes.front(), kMost - kMost / 8);
  EXPECT_EQ(changes.back(), kLeast);
  EXPECT_TRUE(pass(5).empty());
}

TEST_F(MemoryWatchTest, TwoSamplesAreNotPaging) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(pass(2 * kSampleSeconds, 5000, 0.5).empty());
    EXPECT_TRUE(pass(kSampleSeconds).empty());
  }
}

TEST_F(MemoryWatchTest, StallsCountOnlyIfTheyCanBeOurs) {
  EXPECT_TRUE(pass(10, 0, 0.5).empty()) << "another program, held by its own limit";
  EXPECT_FALSE(pass(1, 20, 0.5).empty()) << "this process faults too";
}

TEST_F(MemoryWatchTest, StallsWithLittleAvailableCount) {
  kernel_.available.bytes = 200 * kMiB;
  EXPECT_FALSE(pass(1, 0, 0.5).empty());
}

TEST_F(MemoryWatchTest, MakesRoomForOthersBeforeTheyRunIntoTheLimit) {
  // Others take 8 MiB in every sample of a group that is nearly full.
  kernel_.available = {60 * kMiB, "memory.max", true};
  kernel_.resident_bytes = 4 * kGiB;
  int slots = kMost;
  for (int i = 0; i < 150; ++i) {
    ASSERT_GE(kernel_.available.bytes, 8 * kMiB) << "out of memory";
    kernel_.available.bytes -= 8 * kMiB;
    for (const int now : pass(kSampleSeconds)) {
      kernel_.available.bytes += static_cast<std::uint64_t>(slots - now) * kRow;
      kernel_.resident_bytes -= static_cast<std::uint64_t>(slots - now) * kRow;
      slots = now;
    }
  }
  EXPECT_LT(slots, kMost - 20);
}

TEST_F(MemoryWatchTest, ItsOwnGrowthIsNoSign) {
  kernel_.available = {400 * kMiB, "memory.max", true};
  for (int i = 0; i < 3; ++i) {
    kernel_.available.bytes -= 120 * kMiB;
    kernel_.resident_bytes += 120 * kMiB;
    EXPECT_TRUE(pass(kSampleSeconds).empty());
  }
}

TEST_F(MemoryWatchTest, GrowsBackInStepsAfterAWhile) {
  pass(1, 500);
  const std::vector<int> grown = pass(600);
  ASSERT_FALSE(grown.empty());
  EXPECT_TRUE(std::is_sorted(grown.begin(), grown.end()));
  EXPECT_EQ(grown.back(), kMost);
  EXPECT_GE(grown.size(), 2u) << "not all at once";
}

TEST_F(MemoryWatchTest, GrowthNeverCrossesTheLowMarkByItself) {
  kernel_.available.bytes = 0;
  int slots = pass(kSampleSeconds).back();
  // Of a machine that has room for half of what was given back, and no more.
  std::uint64_t free = 384 * kMiB + static_cast<std::uint64_t>(kMost - slots) / 2 * kRow + kRow / 2;
  for (int i = 0; i < 10 * 600; ++i) {
    kernel_.available.bytes = free;
    for (const int now : pass(kSampleSeconds)) {
      EXPECT_GT(now, slots) << "it swings";
      free -= static_cast<std::uint64_t>(now - slots) * kRow;
      kernel_.resident_bytes += static_cast<std::uint64_t>(now - slots) * kRow;
      slots = now;
    }
  }
  EXPECT_GE(free, 384 * kMiB);
  EXPECT_LT(free, 384 * kMiB + kRow) << "it uses what there is";
}

TEST_F(MemoryWatchTest, ALimitThatOnlyPagingShowsIsProbedEverMoreRarely) {
  // The machine pages whenever more than 40 slots are in use.
  int slots = kMost;
  int samples_over = 0;
  const auto run = [&](int seconds) {
    for (int i = 0; i < 10 * seconds; ++i) {
      const std::vector<int> changes = pass(kSampleSeconds, slots > 40 ? 1000 : 0);
      if (!changes.empty()) slots = changes.back();
      samples_over += slots > 40 ? 1 : 0;
    }
  };
  run(1200);
  EXPECT_LE(slots, 40 + kMost / 16);
  samples_over = 0;
  run(3600);
  EXPECT_LT(samples_over * kSampleSeconds, 3600 * 0.01) << "a hundredth of the time at most";
  EXPECT_GE(slots, 30) << "and the cache stays near what is possible";
}

TEST_F(MemoryWatchTest, AKernelThatTellsNothingIsNoSign) {
  pass(1);
  broken_ = true;
  EXPECT_TRUE(pass(10, 1e6, 1).empty());
  broken_ = false;
  EXPECT_TRUE(pass(10).empty()) << "what happened meanwhile is not one sample's";
}

TEST_F(MemoryWatchTest, CountersThatGoBackAreAnotherGroups) {
  pass(1);
  kernel_.stall_microseconds = 1;
  kernel_.major_faults = 0;
  EXPECT_TRUE(pass(1).empty());
}

TEST_F(MemoryWatchTest, AnyHistoryStaysWithinItsLimits) {
  std::mt19937 random(5);
  const auto below = [&](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
  int slots = kMost;
  for (int i = 0; i < 20'000; ++i) {
    if (below(20) == 0) kernel_.available = {static_cast<std::uint64_t>(below(900)) * kMiB, "x", below(2) == 0};
    for (const int now :
         pass(kSampleSeconds * (1 + below(60)), below(4) == 0 ? below(400) : 0, below(3) == 0 ? 0.3 : 0)) {
      EXPECT_NE(now, slots);
      EXPECT_GE(now, kLeast);
      EXPECT_LE(now, kMost);
      slots = now;
    }
  }
}

}  // namespace
}  // namespace sluice::cache
