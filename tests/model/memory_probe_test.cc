#include "model/memory_probe.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::model {
namespace {

TEST(MemoryProbe, IsBytesOverTheTimeOfTheBestSweep) {
  const std::vector<std::byte> memory(1 << 16);
  kernels::ThreadTeam team(2);
  // Sweeps take 10, 20, 10, 20 ms ...: two looks at the clock for each.
  double now = 0;
  int looks = 0;
  const auto clock = [&] {
    if (looks++ % 2 == 1) now += looks % 4 == 2 ? 0.01 : 0.02;
    return now;
  };
  EXPECT_DOUBLE_EQ(probe_memory(memory, team, clock), 65536 / 0.01);
  EXPECT_EQ(looks, 2 * 4);  // 60 ms
}

TEST(MemoryProbe, SweepsLargeMemoryTwice) {
  const std::vector<std::byte> memory(1 << 16);
  kernels::ThreadTeam team(1);
  double now = 0;
  int looks = 0;
  const auto clock = [&] {
    ++looks;
    return now += 3;
  };
  EXPECT_DOUBLE_EQ(probe_memory(memory, team, clock), 65536 / 3.0);
  EXPECT_EQ(looks, 4);
}

TEST(MemoryProbe, NothingToSweepIsZero) {
  kernels::ThreadTeam team(1);
  EXPECT_EQ(probe_memory({}, team), 0);
  EXPECT_EQ(probe_memory(std::vector<std::byte>(63), team), 0);
}

}  // namespace
}  // namespace sluice::model
