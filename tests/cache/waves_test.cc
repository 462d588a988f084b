// Requests larger than the slots: who stays, and in which order the others are read.
#include "cache/waves.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::cache {
namespace {

std::vector<int> staying(const Waves& waves) { return {waves.staying().begin(), waves.staying().end()}; }

class WavesOfEight : public ::testing::Test {
 protected:
  // An expert that was looked up more often is hotter; all of them belong to the request in step 1.
  void touch(int expert, int times) {
    for (int i = 0; i < times; ++i) policy_->touch(expert, 1, 0);
  }

  std::unique_ptr<EvictionPolicy> policy_ = eviction_policy("decay").create(8);
  Waves waves_{8};
};

TEST_F(WavesOfEight, TheHottestStayAndAreReadLast) {
  for (int expert = 0; expert < 8; ++expert) touch(expert, expert % 4 == 1 ? 5 : 1);  // 1 and 5 are hot
  std::vector<int> misses{0, 1, 2, 3, 4, 5, 6, 7};
  waves_.plan(*policy_, 1, 2, {}, misses);
  EXPECT_EQ(staying(waves_), (std::vector<int>{1, 5}));
  EXPECT_EQ(misses, (std::vector<int>{0, 2, 3, 4, 6, 7, 1, 5}));
}

TEST_F(WavesOfEight, HalfOfTheSlotsCarryMissesHoweverHotTheHitsAre) {
  for (int expert = 0; expert < 6; ++expert) touch(expert, expert < 4 ? 9 - expert : 1);
  std::vector<int> misses{4, 5};
  waves_.plan(*policy_, 1, 4, std::vector<int>{0, 1, 2, 3}, misses);
  EXPECT_EQ(staying(waves_), (std::vector<int>{0, 1, 4, 5}));
  EXPECT_EQ(misses, (std::vector<int>{4, 5}));
}

TEST_F(WavesOfEight, ManyMissesGetAllSlots) {
  for (int expert = 0; expert < 8; ++expert) touch(expert, expert < 3 ? 9 : 1);
  std::vector<int> misses{3, 4, 5, 6, 7};
  waves_.plan(*policy_, 1, 3, std::vector<int>{0, 1, 2}, misses);
  EXPECT_EQ(staying(waves_), (std::vector<int>{5, 6, 7})) << "equals leave in ascending id";
  EXPECT_EQ(misses, (std::vector<int>{3, 4, 5, 6, 7}));
}

TEST_F(WavesOfEight, OneMissTakesOneSlot) {
  for (int expert = 0; expert < 5; ++expert) touch(expert, expert + 1);
  std::vector<int> misses{0};
  waves_.plan(*policy_, 1, 4, std::vector<int>{1, 2, 3, 4}, misses);
  EXPECT_EQ(staying(waves_), (std::vector<int>{0, 2, 3, 4}));
}

TEST_F(WavesOfEight, APlanIsForgotten) {
  std::vector<int> misses{0, 1, 2};
  waves_.plan(*policy_, 1, 2, {}, misses);
  waves_.clear();
  for (int expert = 0; expert < 8; ++expert) EXPECT_FALSE(waves_.stays(expert));
}

}  // namespace
}  // namespace sluice::cache
