// Slots filled before the first step.
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "base/error.h"
#include "cache/expert_cache.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

constexpr int kExperts = 10;

class WarmStartTest : public ::testing::Test {
 protected:
  ExpertFile file_{{{kExperts, {6000, 9000, 130}}, {kExperts, {6000, 9000, 130}}}};
  const std::vector<std::vector<double>> heat_{{0, 9, 0, 3, 5, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 8}};
};

TEST_F(WarmStartTest, TheHottestAreThereWithTheirBytes) {
  stream::Reader reader = file_.reader(5);
  ExpertCache cache(file_.layers(), {.slots_per_layer = 2}, reader);
  std::uint64_t told = 0;
  const WarmStart filled = cache.fill(heat_, [&](std::uint64_t bytes) { told = bytes; });
  EXPECT_EQ(filled.slots, 4u);
  EXPECT_GE(filled.bytes, 4u * 15130);
  EXPECT_EQ(reader.outstanding(), 0u);
  EXPECT_GT(told, 0u);
  const std::vector<std::vector<int>> expected{{1, 4}, {0, 9}};  // of equals the lower id
  for (int layer = 0; layer < 2; ++layer) {
    Lease lease = cache.acquire(layer, expected[static_cast<std::size_t>(layer)], Phase::decode, 1);
    EXPECT_TRUE(lease.all_resident());
    for (const ReadyExpert& ready : lease.next()) EXPECT_TRUE(file_.holds(layer, ready));
  }
  EXPECT_EQ(cache.counts(Phase::decode).hits, 4u);
}

TEST_F(WarmStartTest, ReadsInTheOrderOfTheFile) {
  stream::Reader reader = file_.reader(0);
  ExpertCache cache(file_.layers(), {.slots_per_layer = 6}, reader);
  cache.fill(heat_, {});
  std::uint64_t last = 0;
  for (const stream::IoOp& op : file_.device().log) {
    EXPECT_GE(op.offset, last);
    last = op.offset;
  }
}

TEST_F(WarmStartTest, TheColdestLeaveFirst) {
  stream::Reader reader = file_.reader(5);
  ExpertCache cache(file_.layers(), {.slots_per_layer = 3}, reader);
  cache.fill(heat_, {});
  const auto look_up = [&](int expert, std::uint64_t step) {
    Lease lease = cache.acquire(0, std::vector{expert}, Phase::decode, step);
    while (!lease.next().empty()) {
    }
  };
  look_up(0, 1);
  EXPECT_FALSE(cache.resident(0, 3));
  EXPECT_TRUE(cache.resident(0, 1));
  EXPECT_TRUE(cache.resident(0, 4));
  look_up(3, 2);
  EXPECT_EQ(cache.counts(Phase::decode).misses_capacity, 1u) << "it was here";
  EXPECT_EQ(cache.counts(Phase::decode).misses_cold, 1u);
}

TEST_F(WarmStartTest, AFailedReadIsAnErrorAndLeavesNothingBehind) {
  stream::Reader reader = file_.reader(5, [](const stream::IoOp&, std::size_t nth) {
    return nth >= 3 ? stream::Outcome{.error = EIO} : stream::Outcome{};
  });
  ExpertCache cache(file_.layers(), {.slots_per_layer = 3}, reader);
  EXPECT_THROW(cache.fill(heat_, {}), Error);
  EXPECT_EQ(reader.outstanding(), 0u);
}

}  // namespace
}  // namespace sluice::cache
