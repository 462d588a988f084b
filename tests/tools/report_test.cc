// The closing lines of a run.
#include "report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "program.h"

namespace sluice::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::lines;
using ::testing::Not;
using ::testing::SizeIs;

/// 10 prompt tokens in 2 s; 50 tokens in 10 s that needed 100 MiB each of a disk with 1,000 MiB/s.
model::RunStatistics example() {
  model::RunStatistics s;
  s.model.moe_layers = 2;
  s.model.experts = 32;
  s.model.slots_per_layer = 12;
  s.model.token_dense_bytes = kGiB;
  s.generation.prompt_tokens = 10;
  s.generation.prefill_seconds = 2;
  s.generation.generated_tokens = 51;
  s.generation.decode_steps = 50;
  s.generation.decode_seconds = 10;
  s.prefill_lookups.bytes_read = 120 * kMiB;
  s.decode_lookups.lookups = 400;
  s.decode_lookups.hits = 300;
  s.decode_lookups.bytes_read = 50 * 100 * kMiB;
  s.rates.disk = 1000.0 * kMiB;
  s.rates.memory = 20.0 * kGiB;
  s.settings = {{"temp", "0.7", "default"}, {"seed", "17", "random"}};
  return s;
}

TEST(Closing, SaysSpeedHitsBytesAndBound) {
  const std::string text = closing_text(example());
  EXPECT_THAT(lines(text), SizeIs(3));
  EXPECT_THAT(text, AllOf(HasSubstr("prompt 10 tokens at 5.0 tok/s"), HasSubstr("then 51 tokens at 5.0 tok/s"),
                          HasSubstr("12 of 32 per layer in memory, 75.0 % hits"), HasSubstr("read 5.00 GiB from disk"),
                          HasSubstr("100 MiB per token"), HasSubstr("10.0 tok/s by the disk; 50 % of it reached")));
}

TEST(Closing, SaysWhatOtherCachesWouldHold) {
  model::RunStatistics s = example();
  s.regret = {.belady_hit_rate = 0.91, .half_slots_hit_rate = 0.642, .double_slots_hit_rate = 0.938};
  EXPECT_THAT(lines(closing_text(s)), SizeIs(4));
  EXPECT_THAT(closing_text(s),
              HasSubstr("best possible at this size 91.0 % hits; half the slots 64.2 %, twice 93.8 %"));
}

TEST(Closing, NamesTheTighterBound) {
  model::RunStatistics s = example();
  s.rates.memory = 6.0 * kGiB;
  EXPECT_THAT(closing_text(s), HasSubstr("6.0 tok/s by the memory; 83 %"));
}

TEST(Closing, SaysHowOldCachedRatesAre) {
  model::RunStatistics s = example();
  EXPECT_THAT(closing_text(s), Not(HasSubstr("measured")));
  s.rates.age_seconds = 7300;
  EXPECT_THAT(closing_text(s), HasSubstr("50 % of it reached (measured 2 hours ago)"));
}

TEST(Closing, SeedIsShownWhereItMatters) {
  model::RunStatistics s = example();
  EXPECT_THAT(closing_text(s), HasSubstr("(seed 17)"));
  s.settings.front().value = "0";
  EXPECT_THAT(closing_text(s), Not(HasSubstr("seed")));
  s.settings.clear();
  EXPECT_THAT(closing_text(s), Not(HasSubstr("seed")));
}

TEST(Closing, DenseModelHasNoExperts) {
  model::RunStatistics s = example();
  s.model.moe_layers = 0;
  EXPECT_THAT(closing_text(s), Not(HasSubstr("experts")));
}

TEST(Closing, NothingDecodedOrMeasuredClaimsNothing) {
  model::RunStatistics s = example();
  s.generation.generated_tokens = s.generation.decode_steps = 0;
  s.generation.decode_seconds = 0;
  s.decode_lookups = {};
  const std::string text = closing_text(s);
  EXPECT_THAT(text, AllOf(HasSubstr("then 0 tokens"), Not(HasSubstr("bound")), Not(HasSubstr("hits")),
                          Not(HasSubstr("per token"))));
  model::RunStatistics unknown = example();
  unknown.rates = {};
  EXPECT_THAT(closing_text(unknown), Not(HasSubstr("bound")));
}

}  // namespace
}  // namespace sluice::tools
