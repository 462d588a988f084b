#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/vector.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

std::vector<double> inverse_frequencies(int half, double base) {
  std::vector<double> frequencies;
  for (int i = 0; i < half; ++i) frequencies.push_back(std::pow(base, -static_cast<double>(i) / half));
  return frequencies;
}

class RopeTest : public testing::TestWithParam<const Isa*> {
 protected:
  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
};

INSTANTIATE_TEST_SUITE_P(Isas, RopeTest, testing::ValuesIn(supported_isas()), isa_name);

TEST_P(RopeTest, RotatesPairsOfHalvesAndLeavesTheRestOfTheHead) {
  for (const int half : {1, 5, 8, 12, 32}) {
    constexpr int kHeads = 3;
    const int head_dim = 2 * half + 3;  // partial rotary: three elements pass through
    const auto frequencies = inverse_frequencies(half, 1e6);
    const std::int64_t position = 12345;
    std::vector<float> cos_sin(static_cast<std::size_t>(2 * half));
    rope_angles(position, frequencies, cos_sin.data());
    const auto x = Random(1).normal(static_cast<std::size_t>(kHeads * head_dim));
    auto y = x;
    rope(context_, y.data(), kHeads, head_dim, cos_sin.data(), half);
    for (int head = 0; head < kHeads; ++head) {
      const auto at = [&](int i) { return static_cast<std::size_t>(head * head_dim + i); };
      for (int i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)];
        EXPECT_NEAR(y[at(i)], x[at(i)] * std::cos(angle) - x[at(i + half)] * std::sin(angle), 1e-6);
        EXPECT_NEAR(y[at(i + half)], x[at(i)] * std::sin(angle) + x[at(i + half)] * std::cos(angle), 1e-6);
      }
      for (int i = 2 * half; i < head_dim; ++i) EXPECT_EQ(y[at(i)], x[at(i)]);
    }
  }
}

TEST_P(RopeTest, RotatesAdjacentPairsAndLeavesTheRestOfTheHead) {
  for (const int half : {1, 4, 5, 8, 12, 32}) {
    constexpr int kHeads = 3;
    const int head_dim = 2 * half + 3;
    const auto frequencies = inverse_frequencies(half, 1e4);
    const std::int64_t position = 777;
    std::vector<float> cos_sin(static_cast<std::size_t>(2 * half));
    rope_angles(position, frequencies, cos_sin.data());
    const auto x = Random(3).normal(static_cast<std::size_t>(kHeads * head_dim));
    auto y = x;
    rope(context_, y.data(), kHeads, head_dim, cos_sin.data(), half, RopePairs::adjacent);
    for (int head = 0; head < kHeads; ++head) {
      const auto at = [&](int i) { return static_cast<std::size_t>(head * head_dim + i); };
      for (int i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)];
        const double a = x[at(2 * i)], b = x[at(2 * i + 1)];
        EXPECT_NEAR(y[at(2 * i)], a * std::cos(angle) - b * std::sin(angle), 1e-6);
        EXPECT_NEAR(y[at(2 * i + 1)], a * std::sin(angle) + b * std::cos(angle), 1e-6);
      }
      for (int i = 2 * half; i < head_dim; ++i) EXPECT_EQ(y[at(i)], x[at(i)]);
    }
  }
}

TEST_P(RopeTest, BothPairingsRotateAlikeBitForBit) {
  constexpr int kHalf = 11;
  std::vector<float> cos_sin(2 * kHalf);
  rope_angles(99, inverse_frequencies(kHalf, 1e4), cos_sin.data());
  auto halves = Random(4).normal(2 * kHalf);
  std::vector<float> adjacent(halves.size());
  for (std::size_t i = 0; i < kHalf; ++i) {
    adjacent[2 * i] = halves[i];
    adjacent[2 * i + 1] = halves[kHalf + i];
  }
  rope(context_, halves.data(), 1, 2 * kHalf, cos_sin.data(), kHalf);
  rope(context_, adjacent.data(), 1, 2 * kHalf, cos_sin.data(), kHalf, RopePairs::adjacent);
  for (std::size_t i = 0; i < kHalf; ++i) {
    EXPECT_EQ(adjacent[2 * i], halves[i]);
    EXPECT_EQ(adjacent[2 * i + 1], halves[kHalf + i]);
  }
}

TEST_P(RopeTest, PositionZeroChangesNothing) {
  std::vector<float> cos_sin(16);
  rope_angles(0, inverse_frequencies(8, 1e4), cos_sin.data());
  const auto x = Random(2).normal(32);
  auto y = x;
  rope(context_, y.data(), 2, 16, cos_sin.data(), 8);
  EXPECT_EQ(y, x);
}

TEST(RopeAngles, AreExactAtLargePositions) {
  // In f32 the angle of position 1,000,003 would already be wrong by about 0.03.
  const std::vector<double> frequencies{1.0, 0.1};
  std::vector<float> cos_sin(4);
  rope_angles(1'000'003, frequencies, cos_sin.data());
  EXPECT_FLOAT_EQ(cos_sin[0], static_cast<float>(std::cos(1'000'003.0)));
  EXPECT_FLOAT_EQ(cos_sin[1], static_cast<float>(std::cos(1'000'003.0 * 0.1)));
  EXPECT_FLOAT_EQ(cos_sin[2], static_cast<float>(std::sin(1'000'003.0)));
  EXPECT_FLOAT_EQ(cos_sin[3], static_cast<float>(std::sin(1'000'003.0 * 0.1)));
}

TEST(RopeAngles, TheAmplitudeStretchesWhatIsRotated) {
  const std::vector<double> frequencies{1.0, 0.1};
  std::vector<float> cos_sin(4);
  rope_angles(3, frequencies, cos_sin.data(), 1.25);
  EXPECT_FLOAT_EQ(cos_sin[1], static_cast<float>(1.25 * std::cos(0.3)));
  EXPECT_FLOAT_EQ(cos_sin[3], static_cast<float>(1.25 * std::sin(0.3)));
}

}  // namespace
}  // namespace sluice::kernels
