// The rotary embedding that a config asks for, beside formulas written down independently.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

Config parse(const std::string& text) { return Config::parse(text, "config.json"); }

void expect_frequencies(const RopeSpec& rope, const std::vector<double>& expected) {
  ASSERT_EQ(rope.inv_freq.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(rope.inv_freq[i] / expected[i], 1, 1e-12) << i;
}

TEST(RopeSpec, PlainFrequenciesFallByEqualRatios) {
  const RopeSpec rope = plain_rope(8, 10000);
  expect_frequencies(rope, {1, 0.1, 0.01, 0.001});
  EXPECT_EQ(rope.amplitude, 1);
}

TEST(RopeSpec, LinearScalingStretchesPositions) {
  expect_frequencies(scaled_rope(parse(R"({"type": "linear", "factor": 4.0})"), 8, 10000),
                     {0.25, 0.025, 0.0025, 0.00025});
}

/// By wavelength, as the method is usually described.
TEST(RopeSpec, Llama3SlowsLongWavelengths) {
  constexpr double kPi = 3.14159265358979323846;
  const RopeSpec rope = scaled_rope(parse(R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 8192})"),
                                    128, 500000);
  std::vector<double> expected;
  int kept = 0, blended = 0, slowed = 0;
  for (int i = 0; i < 64; ++i) {
    const double freq = std::pow(500000.0, -i / 64.0);
    const double wavelength = 2 * kPi / freq;
    if (wavelength < 8192.0 / 4) {
      expected.push_back(freq);
      ++kept;
    } else if (wavelength > 8192.0 / 1) {
      expected.push_back(freq / 8);
      ++slowed;
    } else {
      const double smooth = (8192 / wavelength - 1) / (4 - 1);
      expected.push_back((1 - smooth) * freq / 8 + smooth * freq);
      ++blended;
    }
  }
  EXPECT_GT(std::min({kept, blended, slowed}), 0);
  expect_frequencies(rope, expected);
}

/// The mean of kept and slowed frequencies, weighted by a ramp over the dimensions.
std::vector<double> yarn(int dims, double base, double factor, double original, double fast, double slow) {
  constexpr double kPi = 3.14159265358979323846;
  const auto correction = [&](double rotations) {
    return dims * std::log(original / (rotations * 2 * kPi)) / (2 * std::log(base));
  };
  const double low = std::max(0.0, std::floor(correction(fast)));
  double high = std::min(dims - 1.0, std::ceil(correction(slow)));
  if (high == low) high += 0.001;
  std::vector<double> result;
  for (int i = 0; i < dims / 2; ++i) {
    const double freq = std::pow(base, -2.0 * i / dims);
    const double ramp = std::min(1.0, std::max(0.0, (i - low) / (high - low)));
    result.push_back(freq / factor * ramp + freq * (1 - ramp));
  }
  return result;
}

TEST(RopeSpec, YarnOfGptOss) {
  const RopeSpec rope = scaled_rope(parse(R"({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
      "original_max_position_embeddings": 4096, "truncate": false})"),
                                    64, 150000);
  expect_frequencies(rope, yarn(64, 150000, 32, 4096, 32, 1));
  EXPECT_NEAR(rope.amplitude, 0.1 * std::log(32.0) + 1, 1e-12);
}

TEST(RopeSpec, YarnOfDeepseekKeepsItsAmplitudeAndSharpensTheSoftmax) {
  const Config config = parse(R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32,
      "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}})");
  MlaSpec spec;
  spec.rope_dim = 64;
  spec.scale = 0.5F;
  set_rope(rotary_keys(config, std::nullopt), spec);
  expect_frequencies(spec.rope, yarn(64, 10000, 40, 4096, 32, 1));
  EXPECT_EQ(spec.rope.amplitude, 1);
  EXPECT_EQ(spec.rope.pairs, kernels::RopePairs::adjacent);
  const double stretch = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(spec.scale, 0.5 * stretch * stretch, 1e-6);
}

/// Kimi K2 has beta_fast = beta_slow = 1: a ramp of one dimension, or none.
TEST(RopeSpec, YarnWithEqualBetas) {
  const RopeSpec rope = scaled_rope(parse(R"({"type": "yarn", "factor": 32, "beta_fast": 1, "beta_slow": 1,
      "mscale": 1, "mscale_all_dim": 1, "original_max_position_embeddings": 4096})"),
                                    64, 50000);
  expect_frequencies(rope, yarn(64, 50000, 32, 4096, 1, 1));
}

TEST(RopeSpec, YarnDefaultsAreTheReferences) {
  const RopeSpec rope = scaled_rope(parse(R"({"type": "deepseek_yarn", "factor": 0.5})"), 32, 10000);
  expect_frequencies(rope, yarn(32, 10000, 0.5, 4096, 32, 1));
  EXPECT_EQ(rope.amplitude, 1);  // only stretched contexts are amplified
}

TEST(RopeSpec, OnlyTheFirstFractionOfAHeadRotates) {
  const Config config = parse(R"({"rope_theta": 10000, "partial_rotary_factor": 0.5})");
  EXPECT_EQ(rope(config, rotary_keys(config, std::nullopt), 32).inv_freq, plain_rope(16, 10000).inv_freq);
  EXPECT_EQ(rope(config, rotary_keys(config, std::nullopt), 33).inv_freq, plain_rope(16, 10000).inv_freq);
  EXPECT_THAT([&] { rope(config, rotary_keys(config, std::nullopt), 30); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'partial_rotary_factor'"), HasSubstr("even"))));
}

TEST(RopeSpec, UnsupportedScalingIsRefusedByName) {
  for (const char* type : {"dynamic", "longrope", "su", "ntk", "proportional"}) {
    const Config config = parse(std::string(R"({"type": ")") + type + R"(", "factor": 2})");
    EXPECT_THAT([&] { scaled_rope(config, 8, 10000); },
                ThrowsMessage<Error>(AllOf(HasSubstr("config.json"), HasSubstr("'type'"), HasSubstr(type))));
  }
  EXPECT_THAT([] { scaled_rope(parse(R"({"rope_type": "linear"})"), 8, 10000); },
              ThrowsMessage<Error>(HasSubstr("'factor'")));
  EXPECT_THAT([] { scaled_rope(parse(R"({"rope_type": "llama3", "factor": 8, "high_freq_factor": 1})"), 8, 10000); },
              ThrowsMessage<Error>(HasSubstr("'high_freq_factor'")));
  EXPECT_THAT([] { scaled_rope(parse(R"({"type": "yarn", "factor": 4, "attention_factor": 3})"), 8, 10000); },
              ThrowsMessage<Error>(HasSubstr("'attention_factor'")));
}

TEST(RopeSpec, ABaseMustBeNamedUnlessTheFamilyHasADefault) {
  EXPECT_THAT([] { rotary_keys(parse("{}"), std::nullopt); }, ThrowsMessage<Error>(HasSubstr("'rope_theta'")));
  EXPECT_EQ(rotary_keys(parse("{}"), 500).base, 500);
  EXPECT_EQ(rotary_keys(parse(R"({"rope_parameters": {"rope_theta": 7}})"), 500).base, 7);
  EXPECT_THAT([] { rotary_keys(parse(R"({"rope_theta": 8, "rope_parameters": {"rope_theta": 7}})"), 500); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'rope_theta'"), HasSubstr("8"), HasSubstr("7"))));
}

/// Gemma 4: a quarter of the pairs rotate, with frequencies that are spread over the whole head.
TEST(RopeSpec, ProportionalLeavesTheLaterPairsAlone) {
  const ModelSpec spec = build_spec(parse(R"({"model_type": "gemma4", "text_config": {"hidden_size": 64,
      "num_hidden_layers": 1, "vocab_size": 9, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
      "global_head_dim": 32, "intermediate_size": 32, "layer_types": ["full_attention"], "rope_parameters":
      {"full_attention": {"rope_type": "proportional", "rope_theta": 10000, "partial_rotary_factor": 0.25,
      "factor": 2}}}})"),
                                    [](std::string_view) { return nullptr; });
  const RopeSpec& rope = std::get<AttentionSpec>(spec.blocks[0].operation).rope;
  ASSERT_EQ(rope.inv_freq.size(), 16U);
  for (int i = 0; i < 16; ++i) {
    const double expected = i < 4 ? std::pow(10000.0, -2.0 * i / 32) / 2 : 0;
    EXPECT_NEAR(rope.inv_freq[static_cast<std::size_t>(i)], expected, 1e-12) << i;
  }
  EXPECT_EQ(rope.pairs, kernels::RopePairs::halves);
}

}  // namespace
}  // namespace sluice::model
