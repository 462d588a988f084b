// Settings that are compared: how they are written, in which order they are measured, and that they give the same text.
#include "bench_compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "model_copy.h"
#include "program.h"

namespace sluice::tools {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

const FlagValues kGivenFlags{{"threads", "2"}, {"io", "uring"}};

Comparison sweep(std::string_view text) { return parse_sweep({text, "--sweep"}, kGivenFlags); }

TEST(BenchCompare, ASweepHasAPointForEachValue) {
  const Comparison comparison = sweep("cache-slots=8,16");
  ASSERT_EQ(comparison.points.size(), 2U);
  EXPECT_EQ(comparison.points[1].name, "cache-slots=16");
  EXPECT_THAT(comparison.points[1].settings,
              UnorderedElementsAre(Pair("threads", "2"), Pair("io", "uring"), Pair("cache-slots", "16")));
  EXPECT_TRUE(comparison.same_tokens);
  EXPECT_EQ(comparison.swept, "cache-slots");
}

TEST(BenchCompare, OnlySettingsThatChangeTheTextMayGiveOtherTokens) {
  for (const char* text : {"experts-per-token=2,4", "activations=int16,f32", "cache-type=f16,q8"}) {
    EXPECT_FALSE(sweep(text).same_tokens) << text;
  }
  for (const char* text : {"io=uring,pread", "policy=lru,decay", "threads=1,2", "prefill-chunk=8,16", "memory=1G,2G"}) {
    EXPECT_TRUE(sweep(text).same_tokens) << text;
  }
}

TEST(BenchCompare, TheAblationGoesThroughThePathsFromTheBaselineOn) {
  std::vector<std::string> names;
  for (const BenchPoint& point : sweep(kAblation).points) names.push_back(point.name);
  EXPECT_THAT(names,
              ElementsAre("moe-path=per-expert", "moe-path=stacked-split", "moe-path=stacked", "moe-path=fused"));
}

TEST(BenchCompare, AAndBAreListsOfSettingsOverThoseGiven) {
  const Comparison comparison = parse_ab(" cache-slots=32  io=pread", "", kGivenFlags);
  ASSERT_EQ(comparison.points.size(), 2U);
  EXPECT_EQ(comparison.points[0].name, "A: cache-slots=32 io=pread");
  EXPECT_THAT(comparison.points[0].settings,
              UnorderedElementsAre(Pair("threads", "2"), Pair("io", "pread"), Pair("cache-slots", "32")));
  EXPECT_EQ(comparison.points[1].name, "B: as given");
  EXPECT_EQ(comparison.points[1].settings, kGivenFlags);
  EXPECT_EQ(parse_ab("cache-slots=32,io=pread", "", kGivenFlags).points[0].settings, comparison.points[0].settings);
  EXPECT_TRUE(parse_ab("", "experts-per-token=2", {}).same_tokens) << "whatever the settings";
}

TEST(BenchCompare, SettingsThatDoNotExistAreNamed) {
  EXPECT_THAT([] { sweep("cache-slot=8"); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("--sweep: "), HasSubstr("did you mean cache-slots?"))));
  EXPECT_THAT([] { sweep("moe-stacked=0,1"); }, ThrowsMessage<UsageError>(HasSubstr("'moe-stacked'")));
  EXPECT_THAT([] { sweep("cache-slots"); }, ThrowsMessage<UsageError>(HasSubstr("cache-slots=8,16,32")));
  EXPECT_THAT([] { parse_ab("", "cache-slot=8", {}); }, ThrowsMessage<UsageError>(HasSubstr("--ab: ")));
  EXPECT_THAT([] { parse_ab("io", "", {}); }, ThrowsMessage<UsageError>(HasSubstr("'io' has no value")));
}

TEST(BenchCompare, ANumericSweepIsAnAxis) {
  const SweepAxis slots = numeric_axis(sweep("cache-slots=8,32,16"));
  EXPECT_EQ(slots.label, "cache-slots");
  EXPECT_THAT(slots.values, ElementsAre(8, 32, 16));
  const SweepAxis memory = numeric_axis(sweep("memory=512MiB,2GiB"));
  EXPECT_EQ(memory.label, "memory, GiB");
  EXPECT_THAT(memory.values, ElementsAre(0.5, 2));
  EXPECT_THAT([] { numeric_axis(sweep("io=uring,pread")); }, ThrowsMessage<UsageError>(HasSubstr("io=uring")));
  EXPECT_THAT([] { numeric_axis(parse_ab("", "", {})); }, ThrowsMessage<UsageError>(HasSubstr("--sweep")));
}

TEST(BenchCompare, EverySecondRepetitionGoesBackwards) {
  EXPECT_THAT(turns(2, 0), ElementsAre(0, 1));
  EXPECT_THAT(turns(2, 1), ElementsAre(1, 0));
  EXPECT_THAT(turns(3, 2), ElementsAre(0, 1, 2));
  EXPECT_THAT(turns(3, 3), ElementsAre(2, 1, 0));
}

model::BenchRun run_with(model::BenchCache cache, std::vector<int> tokens) {
  return {cache::Phase::decode, cache, {}, std::move(tokens), {}};
}

TEST(BenchCompare, DifferentTokensAreRefused) {
  using model::BenchCache;
  const BenchSeries reference{"A: as given",
                              {run_with(BenchCache::cold, {1, 2, 3}), run_with(BenchCache::warm, {4, 5})}};
  const auto check = [&](std::vector<model::BenchRun> runs) { check_same_tokens(reference, "B: io=pread", runs); };
  check({run_with(BenchCache::cold, {1, 2, 3}), run_with(BenchCache::warm, {4, 5})});
  check({run_with(BenchCache::cold, {1, 2})});  // cancelled
  EXPECT_THAT(
      [&] {
        check({run_with(BenchCache::cold, {1, 2, 3}), run_with(BenchCache::warm, {4, 9})});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("'A: as given'"), HasSubstr("'B: io=pread'"),
                                 HasSubstr("decode, warm: token 2 is 9, not 5"))));
}

// Small, so that measuring its disk and memory is quick.
const std::string kModel = SLUICE_SOURCE_DIR "/tests/data/models/qwen3_moe-many-affine4-gs32";

TEST(Bench, DoesNotCompareDifferentTexts) {
  const testing::ProgramResult result = testing::run_program(
      {"bench", "-m", kModel, "-p", "12", "-n", "0", "-r", "1", "--quiet", "--ab", "", "experts-per-token=1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, AllOf(HasSubstr("'A: as given'"), HasSubstr("'B: experts-per-token=1'"),
                                   HasSubstr("different tokens (prefill, cold: token 1 is ")));
}

TEST(Bench, RefusesTheOutputOfASingleRunBeforeMeasuring) {
  const testing::ScratchDirectory scratch;
  const std::string file = (scratch / "file").string();
  const auto errors = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments{"bench", "-m", "/nowhere"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const testing::ProgramResult result = testing::run_program(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.output, "");
    return result.errors;
  };
  EXPECT_THAT(errors({"--stats"}), AllOf(HasSubstr("--stats: "), HasSubstr("--json FILE")));
  EXPECT_THAT(errors({"--stats-json", file}), AllOf(HasSubstr("--stats-json: "), HasSubstr("--json FILE")));
  EXPECT_THAT(errors({"--route-trace", file}), AllOf(HasSubstr("--route-trace: "), HasSubstr("sluice run")));
  EXPECT_THAT(errors({"--ab", "", "stats-json=" + file}), HasSubstr("--stats-json: "));
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(Bench, DrawsANumericSweepAndRefusesOthersBeforeMeasuring) {
  const testing::ScratchDirectory scratch;
  const std::string file = (scratch / "sweep.svg").string();
  std::vector<std::string> arguments{
      "bench", "-m",        kModel, "-p",      "0",     "-n", "4",       "-r",
      "1",     "--warm-up", "2",    "--quiet", "--svg", file, "--sweep", "cache-slots=8,16"};
  const testing::ProgramResult drawn = testing::run_program(arguments);
  EXPECT_EQ(drawn.exit_code, 0) << drawn.errors;
  EXPECT_THAT(drawn.output, AllOf(HasSubstr("ratio"), HasSubstr("cache-slots=16")));
  EXPECT_THAT(testing::read_file(file),
              AllOf(HasSubstr("schedule bound"), HasSubstr("qwen3_moe-many"), HasSubstr("</svg>")));
  arguments.back() = "io=uring,pread";
  EXPECT_EQ(testing::run_program(arguments).exit_code, 2);
  arguments.resize(arguments.size() - 2);
  EXPECT_EQ(testing::run_program(arguments).exit_code, 2);
  arguments.insert(arguments.end(), {"--ablation", "--ab", "", ""});
  EXPECT_EQ(testing::run_program(arguments).exit_code, 2);
}

}  // namespace
}  // namespace sluice::tools
