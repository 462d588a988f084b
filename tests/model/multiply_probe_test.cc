#include "model/multiply_probe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/plan.h"

namespace sluice::model {
namespace {

/// Every kind of expert: with and without a gate, gate and up in one matrix, quantized in every way.
class MultiplyProbe : public ::testing::TestWithParam<const char*> {};

TEST_P(MultiplyProbe, IsProductsOverTheMedianTimeOfThePassesBehindTheFirst) {
  const ModelPlan plan(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models" / GetParam(), {});
  const ExpertLayout& layout = plan.experts.front();
  kernels::ThreadTeam team(2);
  const kernels::Context context{kernels::select_isa({}), team};
  // Passes take 10, 40, 20, 40, 20 ms: two looks at the clock for each.
  double now = 0;
  int looks = 0;
  const auto clock = [&] {
    if (looks++ % 2 == 1) now += looks == 2 ? 0.01 : looks % 4 == 2 ? 0.02 : 0.04;
    return now;
  };
  const double products = 8.0 * 32 * static_cast<double>(layout.weights());
  EXPECT_NEAR(probe_multiply(layout, context, clock) / (products / 0.04), 1, 1e-9);
  EXPECT_EQ(looks, 2 * 4);  // three that count take 100 ms
}

INSTANTIATE_TEST_SUITE_P(Models, MultiplyProbe,
                         testing::Values("qwen3_moe-affine4-gs64", "nemotron_h-affine4-gs64", "gpt_oss-mxfp4-q8",
                                         "gemma4-affine4-gs32"));

TEST(ExpertWeights, AreThoseOfItsMatrices) {
  const ModelPlan plan(std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m", {});
  const ExpertLayout& layout = plan.experts.front();
  EXPECT_EQ(layout.weights(), static_cast<std::uint64_t>(3 * layout.up.rows * layout.up.cols));
}

}  // namespace
}  // namespace sluice::model
