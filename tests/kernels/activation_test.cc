#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vector.h"
#include "kernels/vector_kernels.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The activations as plain functions.
template <Activation kActivation>
void glu(const Context& context, const float* gate, const float* up, std::int64_t n, float* y) {
  activate(context, kActivation, gate, up, n, y);
}
constexpr auto swiglu = glu<Activation::swiglu>;
constexpr auto gelu_tanh_glu = glu<Activation::gelu_tanh_glu>;
constexpr auto clamped_swiglu = glu<Activation::clamped_swiglu>;
void relu2(const Context& context, const float* x, std::int64_t n, float* y) {
  activate(context, Activation::relu2, nullptr, x, n, y);
}

class ActivationTest : public testing::TestWithParam<const Isa*> {
 protected:
  using Map = void(const Context&, const float*, std::int64_t, float*);
  using Glu = void(const Context&, const float*, const float*, std::int64_t, float*);

  float one(Map* function, float x) const {
    function(context_, &x, 1, &x);
    return x;
  }
  float one(Glu* function, float gate, float up) const {
    function(context_, &gate, &up, 1, &gate);
    return gate;
  }

  /// The worst error in ulps of the exact value, over magnitudes from 2^-40 up to `largest`.
  double worst_ulps(Map* function, double (*exact)(double), float largest) const {
    std::vector<float> x;
    for (float magnitude = 0x1p-40F; magnitude < largest; magnitude *= 1.003F) {
      x.push_back(magnitude);
      x.push_back(-magnitude);
    }
    std::vector<float> y(x.size());
    function(context_, x.data(), static_cast<std::int64_t>(x.size()), y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, ulps(y[i], exact(static_cast<double>(x[i]))));
    return worst;
  }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
};

INSTANTIATE_TEST_SUITE_P(Isas, ActivationTest, testing::ValuesIn(supported_isas()), isa_name);

TEST_P(ActivationTest, MapsAreWithinAFewUlpsOfTheExactValue) {
  EXPECT_LT(worst_ulps(
                sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 85.0F),
            3);
  EXPECT_LT(worst_ulps(
                softplus, [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }, 85.0F),
            4);
  EXPECT_LT(worst_ulps(
                tanh, [](double x) { return std::tanh(x); }, 200.0F),
            3);
  EXPECT_LT(worst_ulps(
                relu2, [](double x) { return x > 0 ? x * x : 0; }, 1e18F),
            1);
}

TEST_P(ActivationTest, MapsAtTheEndsOfTheirRange) {
  EXPECT_EQ(one(sigmoid, 1000.0F), 1.0F);
  EXPECT_EQ(one(sigmoid, -1000.0F), 0.0F);
  EXPECT_EQ(one(softplus, 1000.0F), 1000.0F);
  EXPECT_EQ(one(softplus, kInfinity), kInfinity);
  EXPECT_EQ(one(softplus, -kInfinity), 0.0F);
  EXPECT_EQ(one(softplus, 0.0F), std::log(2.0F));
  EXPECT_EQ(one(tanh, kInfinity), 1.0F);
  EXPECT_EQ(one(tanh, -kInfinity), -1.0F);
  EXPECT_EQ(one(tanh, 0.0F), 0.0F);
  EXPECT_EQ(one(relu2, -kInfinity), 0.0F);
  EXPECT_EQ(one(relu2, kInfinity), kInfinity);
  EXPECT_EQ(one(relu2, -0.0F), 0.0F);
}

TEST_P(ActivationTest, NanStaysVisible) {
  for (Map* map : {sigmoid, softplus, tanh, relu2}) EXPECT_TRUE(std::isnan(one(map, kNan)));
  for (Glu* glu : {swiglu, gelu_tanh_glu, clamped_swiglu, sigmoid_glu}) {
    EXPECT_TRUE(std::isnan(one(glu, kNan, 1.0F)));
    EXPECT_TRUE(std::isnan(one(glu, 1.0F, kNan)));
    EXPECT_FALSE(std::isnan(one(glu, 1.0F, 1.0F)));
  }
}

TEST_P(ActivationTest, GatedActivationsMatchDoublePrecision) {
  Random random(1);
  const auto gate = random.normal(1003, 4.0F);
  const auto up = random.normal(1003, 5.0F);
  std::vector<float> y(gate.size());
  const auto expect = [&](Glu* glu, auto exact) {
    glu(context_, gate.data(), up.data(), 1003, y.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double value = exact(static_cast<double>(gate[i]), static_cast<double>(up[i]));
      // The argument of exp has an error of half an ulp, which grows with it.
      EXPECT_NEAR(y[i], value, (4 + std::abs(gate[i] * gate[i])) * 1e-7 * std::abs(value) + 0x1p-126)
          << gate[i] << ' ' << up[i];
    }
  };
  const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
  expect(swiglu, [&](double g, double u) { return g * sigma(g) * u; });
  expect(sigmoid_glu, [&](double g, double u) { return sigma(g) * u; });
  expect(gelu_tanh_glu, [&](double g, double u) {
    const double inner = std::sqrt(2 / std::acos(-1.0)) * (g + 0.044715 * g * g * g);
    return g * sigma(2 * inner) * u;  // (1 + tanh x) / 2 is sigma(2x), without the cancellation
  });
  expect(clamped_swiglu, [&](double g, double u) {
    g = std::min(g, 7.0);
    return g * sigma(static_cast<double>(1.702F) * g) * (std::clamp(u, -7.0, 7.0) + 1);
  });
}

TEST_P(ActivationTest, TheClampedGateIsOpenBelowAndClosedAtSeven) {
  EXPECT_EQ(one(clamped_swiglu, 7.0F, 7.0F), one(clamped_swiglu, 1e30F, 1e30F));
  EXPECT_EQ(one(clamped_swiglu, 7.0F, -7.0F), one(clamped_swiglu, 50.0F, -50.0F));
  EXPECT_NE(one(clamped_swiglu, -7.0F, 1.0F), one(clamped_swiglu, -8.0F, 1.0F));
  EXPECT_EQ(one(clamped_swiglu, 3.0F, -1.0F), 0.0F);
}

TEST_P(ActivationTest, GatedActivationsMayWriteOverEitherInput) {
  Random random(2);
  const auto gate = random.normal(29);
  const auto up = random.normal(29);
  for (Glu* glu : {swiglu, gelu_tanh_glu, clamped_swiglu, sigmoid_glu}) {
    std::vector<float> expected(29);
    glu(context_, gate.data(), up.data(), 29, expected.data());
    auto over_gate = gate;
    glu(context_, over_gate.data(), up.data(), 29, over_gate.data());
    EXPECT_EQ(over_gate, expected);
    auto over_up = up;
    glu(context_, gate.data(), over_up.data(), 29, over_up.data());
    EXPECT_EQ(over_up, expected);
  }
}

TEST_P(ActivationTest, EveryActivationHasTheBitsOfTheScalarReference) {
  const VectorKernels& actual = *GetParam()->vector;
  Random random(3);
  auto x = special_values();
  for (const float value : random.normal(301, 10.0F)) x.push_back(value);
  auto up = random.normal(x.size(), 5.0F);
  up[20] = kNan;
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<float> y(x.size()), expected(x.size());
  for (const auto map : {&VectorKernels::exp, &VectorKernels::sigmoid, &VectorKernels::softplus, &VectorKernels::tanh,
                         &VectorKernels::relu2}) {
    (actual.*map)(x.data(), n, y.data());
    (kVectorScalar.*map)(x.data(), n, expected.data());
    EXPECT_EQ(bits_of(y), bits_of(expected));
  }
  for (const auto glu : {&VectorKernels::swiglu, &VectorKernels::gelu_tanh_glu, &VectorKernels::clamped_swiglu,
                         &VectorKernels::sigmoid_glu}) {
    (actual.*glu)(x.data(), up.data(), n, y.data());
    (kVectorScalar.*glu)(x.data(), up.data(), n, expected.data());
    EXPECT_EQ(bits_of(y), bits_of(expected));
  }
}

}  // namespace
}  // namespace sluice::kernels
