#include "kernels/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace sluice::kernels {
namespace {

class ThreadTeamTest : public testing::TestWithParam<int> {
 protected:
  ThreadTeam team_{GetParam()};
  const std::size_t size_ = static_cast<std::size_t>(GetParam());
};

// 2 fits the machine where tests usually run; 5 has more threads than CPUs there, so waiting threads park at once.
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadTeamTest, testing::Values(1, 2, 5));

TEST_P(ThreadTeamTest, RunsTheBodyOncePerWorkerAndTheCallerIsWorkerZero) {
  std::vector<int> calls(size_);
  std::vector<std::thread::id> threads(size_);
  team_.run([&](int worker) {
    ++calls[static_cast<std::size_t>(worker)];
    threads[static_cast<std::size_t>(worker)] = std::this_thread::get_id();
  });
  EXPECT_EQ(calls, std::vector<int>(size_, 1));
  EXPECT_EQ(threads[0], std::this_thread::get_id());
  for (std::size_t worker = 1; worker < size_; ++worker) EXPECT_NE(threads[worker], threads[0]);
}

TEST_P(ThreadTeamTest, WhatABodyWroteIsVisibleAfterwardsThroughThousandsOfDispatches) {
  constexpr int kDispatches = 3000;
  std::vector<std::int64_t> sums(size_);  // plain memory: the dispatch itself has to order the writes
  std::int64_t seen_by_all = 0;
  for (int i = 1; i <= kDispatches; ++i) {
    seen_by_all = i;
    team_.run([&](int worker) { sums[static_cast<std::size_t>(worker)] += seen_by_all; });
    for (const std::int64_t sum : sums) ASSERT_EQ(sum, std::int64_t{i} * (i + 1) / 2);
  }
  EXPECT_EQ(team_.dispatches(), kDispatches);
}

TEST_P(ThreadTeamTest, ParallelForCoversEveryIndexExactlyOnce) {
  for (const std::int64_t count : {0, 1, 7, 8, 9, 1000}) {
    for (const std::int64_t grain : {1, 3, 8, 5000}) {
      std::vector<int> visits(static_cast<std::size_t>(count));
      team_.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      EXPECT_EQ(visits, std::vector<int>(visits.size(), 1)) << count << " by " << grain;
    }
  }
}

TEST_P(ThreadTeamTest, ChunksShrinkTowardsTheEndAndNotFurtherThanToAQuarter) {
  constexpr std::int64_t kCount = 1000;
  constexpr std::int64_t kGrain = 40;
  std::vector<std::int64_t> ends(kCount);  // of the chunk that begins at an index
  team_.parallel_for(kCount, kGrain,
                     [&](std::int64_t begin, std::int64_t end) { ends[static_cast<std::size_t>(begin)] = end; });
  if (size_ == 1) {  // nobody to end together with
    EXPECT_EQ(ends[0], kCount);
    return;
  }
  std::int64_t before = kGrain;
  for (std::int64_t begin = 0; begin < kCount;) {
    const std::int64_t end = ends[static_cast<std::size_t>(begin)];
    ASSERT_GT(end, begin);
    EXPECT_LE(end - begin, before);
    if (end < kCount) {
      EXPECT_GE(end - begin, kGrain / 4);
    }
    before = end - begin;
    begin = end;
  }
  EXPECT_LT(before, kGrain);
}

TEST_P(ThreadTeamTest, ParallelForFollowsParallelForWithoutLosingAWrite) {
  constexpr int kDispatches = 3000;
  std::vector<int> values(40);
  for (int i = 0; i < kDispatches; ++i) {
    team_.parallel_for(40, 3, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; ++at) ++values[static_cast<std::size_t>(at)];
    });
  }
  EXPECT_EQ(values, std::vector<int>(40, kDispatches));
}

TEST_P(ThreadTeamTest, DispatchesOfBothKindsMayAlternate) {
  std::atomic<int> runs{0}, indices{0};
  for (int i = 0; i < 500; ++i) {
    team_.parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) { indices += static_cast<int>(end - begin); });
    team_.run([&](int) { ++runs; });
  }
  EXPECT_EQ(runs, 500 * GetParam());
  EXPECT_EQ(indices, 5000);
}

TEST_P(ThreadTeamTest, EveryPhaseSeesAllThatThePhasesBeforeItWrote) {
  std::vector<int> first(50), second(30);
  int third = 0;
  std::atomic<int> wrong{0};
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) ++first[static_cast<std::size_t>(i)];
  };
  const auto sum_first = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      second[static_cast<std::size_t>(i)] = std::accumulate(first.begin(), first.end(), 0);
    }
  };
  const auto nothing = [&](std::int64_t, std::int64_t) { ++wrong; };
  const auto sum_second = [&](std::int64_t, std::int64_t) { third = std::accumulate(second.begin(), second.end(), 0); };
  const ThreadTeam::Phase phases[] = {{50, 4, fill}, {30, 1, sum_first}, {0, 1, nothing}, {1, 1, sum_second}};
  for (int i = 1; i <= 1000; ++i) {
    team_.parallel_phases(phases);
    ASSERT_EQ(third, 50 * 30 * i);
  }
  EXPECT_EQ(wrong, 0) << "a phase without indices ran";
  EXPECT_EQ(team_.dispatches(), size_ == 1 ? 0U : 1000U);
}

TEST_P(ThreadTeamTest, OneChunkRunsOnTheCallerWithoutADispatch) {
  std::thread::id thread;
  team_.parallel_for(8, 8, [&](std::int64_t, std::int64_t) { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
  EXPECT_EQ(team_.dispatches(), 0U);
}

TEST(ThreadTeam, ParallelForUsesTheOtherWorkers) {
  ThreadTeam team(2);
  std::atomic<int> inside{0};
  // Neither chunk can end before the other has begun.
  team.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadTeam, ATeamThatNeverWorkedGoesAwayQuietly) { const ThreadTeam team(3); }

TEST(ThreadTeam, ManyTeamsMayComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    ThreadTeam team(3);
    std::atomic<int> calls{0};
    team.run([&](int) { ++calls; });
    EXPECT_EQ(calls, 3);
  }
}

TEST(ThreadTeamDeathTest, AnExceptionThatLeavesABodyEndsTheProgram) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        ThreadTeam team(2);
        team.run([](int worker) {
          if (worker == 1) throw std::runtime_error("from a worker");
        });
      },
      "from a worker");
}

TEST(AvailableCpus, IsAtLeastOneAndNotMoreThanTheMachineHas) {
  EXPECT_GE(available_cpus(), 1);
  EXPECT_LE(available_cpus(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace sluice::kernels
