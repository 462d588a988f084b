#include "kernels/vector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/vector_kernels.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class VectorTest : public testing::TestWithParam<const Isa*> {
 protected:
  const VectorKernels& kernels() const { return *GetParam()->vector; }

  float exp(float x) const {
    float y = 0;
    kernels().exp(&x, 1, &y);
    return y;
  }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
};

INSTANTIATE_TEST_SUITE_P(Isas, VectorTest, testing::ValuesIn(supported_isas()), isa_name);

TEST_P(VectorTest, ExpIsWithinOneUlpOfTheExactValueOverItsWholeRange) {
  std::vector<float> x;
  constexpr std::uint32_t kStride = 4099;  // a prime: every exponent and all kinds of mantissas
  for (std::uint64_t bits = 0; bits <= 0xFFFFFFFFU; bits += kStride) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::abs(value) < 110) x.push_back(value);
  }
  std::vector<float> y(x.size());
  kernels().exp(x.data(), static_cast<std::int64_t>(x.size()), y.data());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    if (exact > std::numeric_limits<float>::max()) {
      ASSERT_EQ(y[i], kInfinity) << x[i];
    } else {
      worst = std::max(worst, ulps(y[i], exact));
    }
  }
  EXPECT_LT(worst, 1.0);
}

TEST_P(VectorTest, ExpOfSpecialValues) {
  EXPECT_EQ(exp(0.0F), 1.0F);
  EXPECT_EQ(exp(-0.0F), 1.0F);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_EQ(exp(88.73F), kInfinity);
  EXPECT_EQ(exp(-kInfinity), 0.0F);
  EXPECT_EQ(exp(-1000.0F), 0.0F);
  EXPECT_EQ(exp(-103.0F), std::numeric_limits<float>::denorm_min());
  EXPECT_TRUE(std::isnan(exp(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(exp(-std::numeric_limits<float>::quiet_NaN())));
}

TEST_P(VectorTest, AddAddsInPlace) {
  Random random(3);
  for (const std::size_t n : {0, 1, 7, 8, 9, 100}) {
    const auto x = random.normal(n);
    auto y = random.normal(n);
    auto expected = y;
    for (std::size_t i = 0; i < n; ++i) expected[i] += x[i];
    add(context_, x.data(), static_cast<std::int64_t>(n), y.data());
    EXPECT_EQ(y, expected);
  }
}

TEST_P(VectorTest, RmsNormMatchesDoublePrecisionForEveryWidth) {
  Random random(4);
  for (const int n : {1, 5, 8, 13, 64, 100, 2048}) {
    constexpr int kRows = 3;
    constexpr float kEps = 1e-3F;  // large enough to show if it were left out
    const auto x = random.normal(static_cast<std::size_t>(kRows * n), 0.1F);
    const auto weight = random.normal(static_cast<std::size_t>(n));
    std::vector<float> y(x.size());
    rms_norm(context_, x.data(), kRows, n, weight.data(), kEps, y.data());
    for (int row = 0; row < kRows; ++row) {
      const auto* in = x.data() + row * n;
      double squares = 0;
      for (int i = 0; i < n; ++i) squares += static_cast<double>(in[i]) * in[i];
      const double scale = 1 / std::sqrt(squares / n + static_cast<double>(kEps));
      for (int i = 0; i < n; ++i) {
        const double exact = weight[static_cast<std::size_t>(i)] * in[i] * scale;
        EXPECT_NEAR(y[static_cast<std::size_t>(row * n + i)], exact, 1e-6 * std::abs(exact)) << n;
      }
    }
    auto in_place = x;
    rms_norm(context_, in_place.data(), kRows, n, weight.data(), kEps, in_place.data());
    EXPECT_EQ(in_place, y);
  }
}

TEST_P(VectorTest, RmsNormWithoutWeightIsThatOfOnes) {
  const auto x = Random(10).normal(5 * 37);
  const std::vector<float> ones(37, 1.0F);
  std::vector<float> y(x.size()), expected(x.size());
  rms_norm(context_, x.data(), 5, 37, nullptr, 1e-6F, y.data());
  rms_norm(context_, x.data(), 5, 37, ones.data(), 1e-6F, expected.data());
  EXPECT_EQ(y, expected);
}

TEST_P(VectorTest, LayerNormMatchesDoublePrecisionForEveryWidth) {
  Random random(11);
  for (const int n : {1, 5, 8, 13, 64, 100, 2048}) {
    constexpr int kRows = 3;
    constexpr float kEps = 1e-3F;
    auto x = random.normal(static_cast<std::size_t>(kRows * n));
    for (float& value : x) value += 3.0F;
    const auto weight = random.normal(static_cast<std::size_t>(n));
    const auto bias = random.normal(static_cast<std::size_t>(n));
    std::vector<float> y(x.size());
    layer_norm(context_, x.data(), kRows, n, weight.data(), bias.data(), kEps, y.data());
    for (int row = 0; row < kRows; ++row) {
      const auto* in = x.data() + row * n;
      const double mean = std::accumulate(in, in + n, 0.0) / n;
      double squares = 0;
      for (int i = 0; i < n; ++i) squares += (in[i] - mean) * (in[i] - mean);
      const double scale = 1 / std::sqrt(squares / n + static_cast<double>(kEps));
      for (int i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        EXPECT_NEAR(y[static_cast<std::size_t>(row * n + i)], weight[at] * (in[i] - mean) * scale + bias[at], 1e-5)
            << n;
      }
    }
    layer_norm(context_, x.data(), kRows, n, weight.data(), bias.data(), kEps, x.data());
    EXPECT_EQ(x, y);
  }
}

TEST_P(VectorTest, SoftmaxMatchesDoublePrecisionForEveryLength) {
  Random random(5);
  for (const std::size_t n : {1, 3, 8, 17, 128, 1000}) {
    auto logits = random.normal(n, 5.0F);
    std::vector<double> exact(logits.begin(), logits.end());
    const double largest = *std::max_element(exact.begin(), exact.end());
    for (double& value : exact) value = std::exp(value - largest);
    const double total = std::accumulate(exact.begin(), exact.end(), 0.0);
    softmax(context_, logits.data(), static_cast<int>(n));
    // Most of the error is the rounding of logit - largest.
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(logits[i], exact[i] / total, 3e-6 * exact[i] / total) << n;
  }
}

TEST_P(VectorTest, SoftmaxGivesMaskedLogitsNothingAndSurvivesLargeOnes) {
  std::vector<float> logits{-kInfinity, 3e38F, 3e38F, -3e38F, -kInfinity, 0, 1, 2, -kInfinity};
  softmax(context_, logits.data(), 9);
  EXPECT_EQ(logits, (std::vector<float>{0, 0.5F, 0.5F, 0, 0, 0, 0, 0, 0}));
  // The largest logit may also stand behind the last full group of eight.
  logits = {0, 0, 0, 0, 0, 0, 0, 0, 1000};
  softmax(context_, logits.data(), 9);
  EXPECT_EQ(logits, (std::vector<float>{0, 0, 0, 0, 0, 0, 0, 0, 1}));
}

TEST_P(VectorTest, ThreadsDoNotChangeABit) {
  Random random(6);
  constexpr int kRows = 70, kWidth = 1003;  // several chunks, none ending at a multiple of eight
  const auto x = random.normal(kRows * kWidth);
  const auto up = random.normal(kRows * kWidth);
  const auto weight = random.normal(kWidth);
  const auto compute = [&](int threads) {
    ThreadTeam team(threads);
    const Context context{*GetParam(), team};
    std::vector<float> normed(x.size()), activated(x.size());
    auto added = up;
    rms_norm(context, x.data(), kRows, kWidth, weight.data(), 1e-6F, normed.data());
    activate(context, Activation::swiglu, x.data(), up.data(), kRows * kWidth, activated.data());
    add(context, x.data(), kRows * kWidth, added.data());
    return std::vector{bits_of(normed), bits_of(activated), bits_of(added)};
  };
  EXPECT_EQ(compute(1), compute(2));
  EXPECT_EQ(compute(1), compute(3));
}

TEST_P(VectorTest, EveryOperationHasTheBitsOfTheScalarReference) {
  Random random(7);
  for (int n = 0; n < 60; ++n) {
    const auto count = static_cast<std::size_t>(n);
    auto x = random.normal(count, 3.0F);
    const auto weight = random.normal(count);
    const auto specials = special_values();
    for (std::size_t i = 0; i < count; i += 3) x[i] = specials[(i * 7 + count) % specials.size()];
    const auto tame = random.normal(count, 3.0F);  // one NaN makes a whole row NaN, so norms need a row without

    const auto compute = [&](const VectorKernels& table) {
      std::vector<std::vector<std::uint32_t>> results;
      const auto keep = [&](const auto& operation) {
        std::vector<float> y = x;
        operation(y.data());
        results.push_back(bits_of(y));
      };
      keep([&](float* y) { table.add(weight.data(), n, y); });
      keep([&](float* y) { table.rms_norm(tame.data(), n, weight.data(), 1e-5F, y); });
      keep([&](float* y) { table.rms_norm(tame.data(), n, nullptr, 1e-5F, y); });
      keep([&](float* y) { table.layer_norm(tame.data(), n, weight.data(), weight.data(), 1e-5F, y); });
      keep([&](float* y) { table.rotate_halves(y, weight.data(), n / 2); });
      keep([&](float* y) { table.rotate_adjacent(y, weight.data(), n / 2); });
      keep([&](float* y) {
        std::copy(tame.begin(), tame.end(), y);
        table.softmax(y, n);
      });
      return results;
    };
    EXPECT_EQ(compute(kernels()), compute(kVectorScalar)) << n;
  }
}

TEST_P(VectorTest, EncodingHasTheBitsOfTheScalarReferenceIncludingNan) {
  Random random(8);
  std::vector<float> x = special_values();
  for (int i = 0; i < 4000; ++i) {  // any bit pattern: all magnitudes, denormals, NaN payloads
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random.integer(INT32_MIN, INT32_MAX))));
  }
  const auto n = static_cast<int>(x.size());
  for (const DType type : {DType::f16, DType::bf16, DType::f32, DType::i8}) {
    std::vector<std::byte> actual(x.size() * sizeof(float) + sizeof(Q8Group)), expected(actual.size());
    kernels().encode(type, x.data(), n, actual.data());
    kVectorScalar.encode(type, x.data(), n, expected.data());
    EXPECT_EQ(actual, expected) << name_of(type);
  }
}

TEST_P(VectorTest, EightBitRowsHaveOneScalePerGroup) {
  std::vector<float> x(70);  // two groups and six elements
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 30.0F;
  x[1] = -63.5F;
  for (std::size_t i = 32; i < 64; ++i) x[i] = 0x1p-120F;  // too small for a scale: zero
  x[66] = kInfinity;
  Q8Group groups[3];
  kernels().encode(DType::i8, x.data(), 70, reinterpret_cast<std::byte*>(groups));
  EXPECT_EQ(groups[0].scale, 0.5F);
  EXPECT_EQ(groups[0].codes[0], -60);
  EXPECT_EQ(groups[0].codes[1], -127);
  EXPECT_EQ(groups[0].codes[31], 2);
  EXPECT_EQ(groups[1].scale, 0.0F);
  EXPECT_TRUE(std::isnan(groups[2].scale));
  for (int i = 0; i < kQ8Group; ++i) EXPECT_EQ(groups[1].codes[i] | groups[2].codes[i], 0) << i;
}

TEST_P(VectorTest, EncodingWritesExactlyItsElements) {
  const auto x = Random(9).normal(13);
  for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
    std::vector<std::byte> y(14 * size_of(type), std::byte{0xEE});
    kernels().encode(type, x.data(), 13, y.data());
    for (std::size_t i = 13 * size_of(type); i < y.size(); ++i) EXPECT_EQ(y[i], std::byte{0xEE}) << name_of(type);
  }
}

}  // namespace
}  // namespace sluice::kernels
