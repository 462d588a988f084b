#include "bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

model::BenchRun decode_run(double seconds) {
  model::BenchRun run{cache::Phase::decode, model::BenchCache::warm, {}, {}};
  model::RunStatistics& s = run.statistics;
  s.model.token_dense_bytes = 1000;
  s.generation.decode_steps = 10;
  s.generation.decode_seconds = seconds;
  s.decode_lookups = {
      .lookups = 80, .hits = 60, .misses_cold = 5, .misses_capacity = 15, .bytes_needed = 0, .bytes_read = 10 << 20};
  s.decode_stall_seconds = seconds / 4;
  s.rates.disk = 10 << 20;  // a token a second
  s.rates.memory = 1e6;
  s.schedule_bound = 8;
  return run;
}

model::BenchRun prefill_run(double seconds) {
  model::BenchRun run{cache::Phase::prefill, model::BenchCache::cold, {}, {}};
  run.statistics.generation.prompt_tokens = 100;
  run.statistics.generation.prefill_seconds = seconds;
  return run;
}

TEST(BenchTable, ShowsMediansAndSpreadsByPhaseAndCache) {
  const std::string table = bench_table(
      {{"", {prefill_run(1), decode_run(5), prefill_run(4), decode_run(2), prefill_run(2), decode_run(20)}}},
      TableStyle::plain);
  EXPECT_THAT(table, Not(HasSubstr("setting")));
  EXPECT_THAT(table, HasSubstr("prefill  cold   50.00  25.00-100.00"));
  EXPECT_THAT(table, HasSubstr("decode   warm   2.00   0.50-5.00"));
  EXPECT_THAT(table, HasSubstr("75 %"));        // hits
  EXPECT_THAT(table, HasSubstr("1.00 MiB"));    // per token
  EXPECT_THAT(table, HasSubstr("10.00 disk"));  // bound
  EXPECT_THAT(table, HasSubstr("20 %"));        // of it
  EXPECT_THAT(table, HasSubstr("25 %"));        // waiting, and of the schedule bound
}

TEST(BenchTable, NamesTheSettingsOfASweepInEveryStyle) {
  const std::vector<BenchSeries> series{{"cache-slots=8", {decode_run(1)}}, {"cache-slots=16", {decode_run(2)}}};
  EXPECT_THAT(bench_table(series, TableStyle::plain), HasSubstr("cache-slots=16  decode"));
  EXPECT_THAT(bench_table(series, TableStyle::markdown), HasSubstr("| cache-slots=16 | decode | warm  |"));
  EXPECT_THAT(bench_table(series, TableStyle::markdown), HasSubstr("| --- | --- |"));
  EXPECT_THAT(bench_table(series, TableStyle::csv), HasSubstr("\ncache-slots=16,decode,warm,5.00,5.00-5.00,75 %,"));
}

TEST(BenchJson, HoldsEveryMeasurementWithItsStatistics) {
  const auto json = nlohmann::json::parse(bench_json({{"a", {decode_run(5), prefill_run(1), decode_run(2)}}}));
  ASSERT_EQ(json["runs"].size(), 3U);
  const auto& last = json["runs"][2];
  EXPECT_EQ(last["setting"], "a");
  EXPECT_EQ(last["phase"], "decode");
  EXPECT_EQ(last["cache"], "warm");
  EXPECT_EQ(last["repetition"], 1);
  EXPECT_EQ(last["decode"]["tok_per_s"], 5.0);
  EXPECT_EQ(last["cache_counts"]["hits"], 60);
  EXPECT_EQ(json["runs"][1]["prefill"]["tok_per_s"], 100.0);
}

}  // namespace
}  // namespace sluice::tools
