#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/vector.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int> top(const std::vector<float>& values, TieRule ties, std::size_t k) {
  std::vector<int> indices(k);
  top_k(values, ties, indices);
  return indices;
}

/// A full stable sort instead of an insertion.
std::vector<int> naive_top(const std::vector<float>& values, TieRule ties, std::size_t k) {
  std::vector<int> indices(values.size());
  std::iota(indices.begin(), indices.end(), 0);
  if (ties == TieRule::higher_index) std::reverse(indices.begin(), indices.end());
  std::stable_sort(indices.begin(), indices.end(), [&](int a, int b) {
    const float x = values[static_cast<std::size_t>(a)], y = values[static_cast<std::size_t>(b)];
    return std::isnan(y) ? !std::isnan(x) : x > y;
  });
  indices.resize(k);
  return indices;
}

TEST(TopK, AgreesWithASortForBothTieRules) {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    const auto n = static_cast<std::size_t>(random.integer(1, 70));
    std::vector<float> values(n);
    for (float& value : values) {  // few distinct values: many ties
      const int pick = random.integer(-3, 6);
      value = pick == 6 ? kNan : pick == 5 ? -kInfinity : static_cast<float>(pick);
    }
    const auto k = static_cast<std::size_t>(random.integer(0, static_cast<int>(n)));
    for (const TieRule ties : {TieRule::lower_index, TieRule::higher_index}) {
      EXPECT_EQ(top(values, ties, k), naive_top(values, ties, k));
    }
  }
}

TEST(TopK, TieRuleDecidesWhoIsIn) {
  const std::vector<float> values{1, 2, 2, 2, 0};
  EXPECT_EQ(top(values, TieRule::lower_index, 2), (std::vector<int>{1, 2}));
  EXPECT_EQ(top(values, TieRule::higher_index, 2), (std::vector<int>{3, 2}));
}

TEST(TopK, NanComesAfterMinusInfinity) {
  EXPECT_EQ(top({kNan, -kInfinity, 1, kNan}, TieRule::lower_index, 4), (std::vector<int>{2, 1, 0, 3}));
}

TEST(TopK, ZerosOfBothSignsAreEqual) {
  EXPECT_EQ(top({-0.0F, 0.0F}, TieRule::lower_index, 1), (std::vector<int>{0}));
  EXPECT_EQ(top({0.0F, -0.0F}, TieRule::higher_index, 1), (std::vector<int>{1}));
}

TEST(Argmax, IsTheLowestIndexOfTheLargestValue) {
  EXPECT_EQ(argmax(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(argmax(std::vector<float>{-kInfinity}), 0);
}

TEST(Argmax, NeverChoosesNanUnlessAllAre) {
  EXPECT_EQ(argmax(std::vector<float>{kNan, -kInfinity, kNan}), 1);
  EXPECT_EQ(argmax(std::vector<float>{2, kNan, 1}), 0);
  EXPECT_EQ(argmax(std::vector<float>{kNan, kNan}), 0);
}

TEST(Argmax, IsTheFirstOfTopKForAnyLength) {
  std::mt19937 random(1);
  const float some[] = {kNan, -kInfinity, -1, 0, -0.0F, 2, 3};
  for (std::size_t size = 1; size <= 40; ++size) {
    for (int draw = 0; draw < 50; ++draw) {
      std::vector<float> values(size);
      for (float& value : values) value = some[random() % std::size(some)];
      EXPECT_EQ(argmax(values), top(values, TieRule::lower_index, 1)[0]) << size << " values, draw " << draw;
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
