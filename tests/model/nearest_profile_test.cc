#include "model/routes/nearest_profile.h"

#include <gtest/gtest.h>

namespace sluice::model {
namespace {

TEST(NearestProfile, AModelWithAProfileOfItsOwnGetsIt) {
  // Types as config.json has them, layers with experts, experts.
  EXPECT_EQ(nearest_profile("qwen3_moe", 48, 128).name, "qwen3-30b");
  EXPECT_EQ(nearest_profile("qwen3_5_moe", 40, 256).name, "qwen3.5-35b");
  EXPECT_EQ(nearest_profile("qwen3_5_moe", 48, 256).name, "qwen3.5-122b");
  EXPECT_EQ(nearest_profile("qwen3_5_moe", 60, 512).name, "qwen3.5-397b");
  EXPECT_EQ(nearest_profile("gpt_oss", 36, 128).name, "gpt-oss-120b");
  EXPECT_EQ(nearest_profile("gemma4", 30, 128).name, "gemma-4-26b");
  EXPECT_EQ(nearest_profile("kimi_linear", 26, 256).name, "kimi-linear-48b");
  EXPECT_EQ(nearest_profile("deepseek_v3", 58, 256).name, "deepseek-v3");
  EXPECT_EQ(nearest_profile("nemotron_h", 23, 128).name, "nemotron-3-nano-30b");
  EXPECT_EQ(nearest_profile("nemotron_h", 40, 512).name, "nemotron-3-super-120b");
  EXPECT_EQ(nearest_profile("glm_moe_dsa", 75, 256).name, "glm-5.2");
  EXPECT_EQ(nearest_profile("olmoe", 16, 64).name, "olmoe");
  EXPECT_EQ(nearest_profile("qwen3_moe", 8, 32).name, "inkwell-44m");
}

TEST(NearestProfile, ARelativeComesBeforeAShape) {
  EXPECT_EQ(nearest_profile("deepseek_v32", 58, 256).name, "deepseek-v3");
  EXPECT_EQ(nearest_profile("glm4_moe", 45, 128).name, "glm-5.2");
  EXPECT_EQ(nearest_profile("gpt_oss", 24, 32).name, "gpt-oss-120b");
}

TEST(NearestProfile, AmongRelativesTheShapeDecidesExpertsFirst) {
  EXPECT_EQ(nearest_profile("qwen3_moe", 12, 128).name, "qwen3-30b");
  EXPECT_EQ(nearest_profile("qwen3_next", 48, 512).name, "qwen3.5-397b");
  EXPECT_EQ(nearest_profile("qwen3_5_moe", 60, 256).name, "qwen3.5-122b");
}

TEST(NearestProfile, WithoutARelativeTheShapeDecides) {
  EXPECT_EQ(nearest_profile("mixtral", 32, 8).name, "inkwell-44m");
  EXPECT_EQ(nearest_profile("minimax", 62, 256).name, "deepseek-v3");
}

}  // namespace
}  // namespace sluice::model
