// How sampling flags meet the model's defaults.
#include "sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace sluice::tools {
namespace {

using model::GenerationDefaults;
using model::SamplingParams;

constexpr std::uint64_t kRandomSeed = 99;

GenerationDefaults file_defaults() {
  GenerationDefaults defaults;
  defaults.do_sample = true;
  defaults.temperature = 0.7F;
  defaults.top_k = 40;
  defaults.top_p = 0.9F;
  defaults.repetition_penalty = 1.1F;
  return defaults;
}

struct Settled {
  SamplingParams params;
  std::map<std::string, model::SettingRecord> records;
};

Settled settle(const SamplingOptions& options, const GenerationDefaults& defaults) {
  std::vector<model::SettingRecord> records;
  Settled settled{settle_sampling(options, defaults, kRandomSeed, records), {}};
  for (const model::SettingRecord& record : records) settled.records[record.name] = record;
  return settled;
}

TEST(Sampling, FileSuppliesTheDefaults) {
  const Settled settled = settle({}, file_defaults());
  EXPECT_FLOAT_EQ(settled.params.temperature, 0.7F);
  EXPECT_EQ(settled.params.top_k, 40);
  EXPECT_FLOAT_EQ(settled.params.top_p, 0.9F);
  EXPECT_FLOAT_EQ(settled.params.min_p, 0);
  EXPECT_FLOAT_EQ(settled.params.repeat_penalty, 1.1F);
  EXPECT_EQ(settled.records.at("top_k").origin, "generation_config.json");
  EXPECT_EQ(settled.records.at("min_p").origin, "default");
  EXPECT_EQ(settled.records.at("temp").value, "0.7");
}

TEST(Sampling, FlagsWin) {
  SamplingOptions options;
  options.temperature = 0.5F;
  options.top_k = 7;
  options.repeat_penalty = 1.0F;
  const Settled settled = settle(options, file_defaults());
  EXPECT_FLOAT_EQ(settled.params.temperature, 0.5F);
  EXPECT_EQ(settled.params.top_k, 7);
  EXPECT_FLOAT_EQ(settled.params.repeat_penalty, 1.0F);
  EXPECT_FLOAT_EQ(settled.params.top_p, 0.9F);
  EXPECT_EQ(settled.records.at("temp").origin, "flag --temp");
}

TEST(Sampling, TemperatureZeroDropsThePenaltyOfTheFile) {
  SamplingOptions options;
  options.temperature = 0.0F;
  EXPECT_FLOAT_EQ(settle(options, file_defaults()).params.repeat_penalty, 1.0F);
  options.repeat_penalty = 1.2F;
  EXPECT_FLOAT_EQ(settle(options, file_defaults()).params.repeat_penalty, 1.2F);
}

TEST(Sampling, GreedyWithoutAFile) { EXPECT_FLOAT_EQ(settle({}, {}).params.temperature, 0); }

TEST(Sampling, DoSampleDecidesWhatTheTemperatureMeans) {
  GenerationDefaults defaults = file_defaults();
  defaults.do_sample = false;
  EXPECT_FLOAT_EQ(settle({}, defaults).params.temperature, 0);
  defaults.do_sample = true;
  defaults.temperature.reset();
  EXPECT_FLOAT_EQ(settle({}, defaults).params.temperature, 1);
  defaults.do_sample.reset();
  EXPECT_FLOAT_EQ(settle({}, defaults).params.temperature, 0);
}

TEST(Sampling, SeedIsRecordedSoThatARunCanBeRepeated) {
  const Settled random = settle({}, file_defaults());
  EXPECT_EQ(random.params.seed, kRandomSeed);
  EXPECT_EQ(random.records.at("seed").value, "99");
  EXPECT_EQ(random.records.at("seed").origin, "random");
  SamplingOptions options;
  options.seed = 0;
  EXPECT_EQ(settle(options, {}).params.seed, 0U);
  EXPECT_EQ(settle(options, {}).records.at("seed").origin, "flag --seed");
}

TEST(Sampling, OutOfRangeNamesTheFlag) {
  SamplingOptions options;
  options.top_p = 1.5F;
  try {
    settle(options, {});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("--top-p"));
  }
}

TEST(Sampling, FlagsReachTheOptions) {
  std::vector<Flag> flags;
  SamplingOptions options;
  add_sampling(flags, options);
  const VerbFlags verb{"run", "", "", flags};
  EXPECT_TRUE(parse_flags(verb, {"--temperature", "0.25", "--top-k=3", "--min-p", "0.1", "-s", "7"}));
  EXPECT_EQ(options.temperature, 0.25F);
  EXPECT_EQ(options.top_k, 3);
  EXPECT_EQ(options.min_p, 0.1F);
  EXPECT_EQ(options.seed, 7U);
  EXPECT_FALSE(options.top_p.has_value());
}

TEST(Sampling, SeedMinusOneMeansRandom) {
  std::vector<Flag> flags;
  SamplingOptions options;
  add_sampling(flags, options);
  parse_flags({"run", "", "", flags}, {"--seed", "-1"});
  EXPECT_FALSE(options.seed.has_value());
}

}  // namespace
}  // namespace sluice::tools
