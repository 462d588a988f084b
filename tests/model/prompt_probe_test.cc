// What a prompt takes, measured on every kind of block.
#include "model/prompt_probe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/isa.h"

namespace sluice::model {
namespace {

class PromptProbe : public ::testing::TestWithParam<const char*> {
 protected:
  PromptRates probe(int slots) {
    RuntimeSettings settings;
    if (slots > 0) settings.cache_slots = slots;
    settings.prefill_chunk = 16;
    const ModelPlan plan(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models" / GetParam(), settings);
    stream::Reader reader = stream::Reader::open("pread", plan.checkpoint.files().front().path);
    for (const stream::FileInfo& file : plan.checkpoint.files()) reader.add_file(file.path);
    kernels::ThreadTeam team(2);
    const kernels::Context context{kernels::select_isa({}), team};
    // A clock that moves by a hundredth at every look.
    double now = 0;
    PromptRates rates = probe_prompt(plan, 4, reader, context, [&] { return now += 0.01; });
    EXPECT_EQ(reader.outstanding(), 0U);
    kinds_ = rates.block_seconds * 16 / 0.01;
    blocks_ = static_cast<double>(plan.spec.blocks.size());
    return rates;
  }

  double kinds_ = 0;
  double blocks_ = 0;
};

TEST_P(PromptProbe, EveryBlockCountsOnce) {
  const PromptRates rates = probe(0);
  EXPECT_NEAR(kinds_, blocks_, 1e-6) << "each takes a hundredth for a pass of 16 tokens";
  const ModelPlan plan(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models" / GetParam(), {});
  EXPECT_EQ(rates.multiply > 0, !plan.experts.empty());
  EXPECT_EQ(rates.disk > 0, !plan.experts.empty());
}

INSTANTIATE_TEST_SUITE_P(Models, PromptProbe,
                         testing::Values("qwen3-affine4-gs64", "qwen3_moe-affine4-gs64", "nemotron_h-affine4-gs64",
                                         "gpt_oss-mxfp4-q8", "gemma4-affine4-gs32", "deepseek_v3-affine4-gs64",
                                         "glm_moe_dsa-indexshare-affine4-gs32", "kimi_linear-affine4-gs32",
                                         "qwen3_5_moe-affine4-gs64"));

}  // namespace
}  // namespace sluice::model
