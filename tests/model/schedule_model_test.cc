// What the schedule bound is told about a model.
#include <gtest/gtest.h>

#include "model/plan.h"

namespace sluice::model {
namespace {

struct ScheduleModelTest : testing::TestWithParam<const char*> {
  ModelPlan plan{std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models" / GetParam(), RuntimeSettings()};
};

/// Every dense byte that a token touches is in one place.
TEST_P(ScheduleModelTest, CountsEveryDenseByteOnce) {
  const cache::ScheduleModel schedule = schedule_model(plan);
  std::uint64_t bytes = schedule.after_bytes;
  for (const cache::ScheduleLayer& layer : schedule.layers) bytes += layer.before_router_bytes + layer.shared_bytes;
  EXPECT_EQ(bytes, plan.token_dense_bytes());
}

TEST_P(ScheduleModelTest, KnowsTheExpertsOfEachLayer) {
  const cache::ScheduleModel schedule = schedule_model(plan);
  ASSERT_EQ(schedule.layers.size(), plan.experts.size());
  std::size_t moe = 0;
  for (const BlockSpec& block : plan.spec.blocks) {
    const auto* spec = std::get_if<MoeSpec>(&block.operation);
    if (spec == nullptr) continue;
    const cache::ScheduleLayer& layer = schedule.layers[moe];
    EXPECT_EQ(layer.shared_bytes > 0, spec->shared.has_value());
    EXPECT_EQ(layer.expert_bytes, plan.experts[moe].expert_bytes());
    EXPECT_GE(layer.read_bytes, layer.expert_bytes);
    EXPECT_GT(layer.before_router_bytes, 0U);
    ++moe;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ScheduleModelTest,
                         testing::Values("qwen3_moe-affine4-gs64", "qwen3_5_moe-affine4-gs64",
                                         "nemotron_h-affine4-gs64", "deepseek_v3-affine4-gs64", "gpt_oss-mxfp4-q8",
                                         "gemma4-affine4-gs32"));

}  // namespace
}  // namespace sluice::model
