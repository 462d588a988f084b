#include "bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

namespace sluice::tools {
namespace {

using model::BenchRun;
using testing::AllOf;
using testing::Contains;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

BenchRun decode_run(double seconds) {
  BenchRun run{cache::Phase::decode, model::BenchCache::warm, {}, {}, {}};
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

BenchRun prefill_run(double seconds) {
  BenchRun run{cache::Phase::prefill, model::BenchCache::cold, {}, {}, {}};
  run.statistics.generation.prompt_tokens = 100;
  run.statistics.generation.prefill_seconds = seconds;
  return run;
}

TEST(BenchTable, ShowsMediansAndSpreadsByPhaseAndCache) {
  const std::string table = bench_table(
      {{"", {prefill_run(1), decode_run(5), prefill_run(4), decode_run(2), prefill_run(2), decode_run(20)}}},
      TableStyle::plain, false);
  EXPECT_THAT(table, Not(HasSubstr("setting")));
  EXPECT_THAT(table, HasSubstr("prefill  cold   50.00  25.00-100.00"));
  EXPECT_THAT(table, HasSubstr("decode   warm   2.00   0.50-5.00"));
  EXPECT_THAT(table, HasSubstr("75 %"));        // hits
  EXPECT_THAT(table, HasSubstr("1.00 MiB"));    // per token
  EXPECT_THAT(table, HasSubstr("10.00 disk"));  // bound
  EXPECT_THAT(table, HasSubstr("20 %"));        // of it
  EXPECT_THAT(table, HasSubstr("25 %"));        // waiting, and of the schedule bound
}

TEST(BenchTable, ShowsTheBoundOfAPrompt) {
  BenchRun run = prefill_run(1);
  run.statistics.model.prompt_weights = 1000;
  run.statistics.rates.multiply = 125'000;
  EXPECT_THAT(bench_table({{"", {run}}}, TableStyle::plain, false), HasSubstr("125.00 multiplication  80 %   -"));
}

TEST(BenchTable, NamesTheSettingsOfASweepInEveryStyle) {
  const std::vector<BenchSeries> series{{"cache-slots=8", {decode_run(1)}}, {"cache-slots=16", {decode_run(2)}}};
  EXPECT_THAT(bench_table(series, TableStyle::plain, true), HasSubstr("cache-slots=16  decode"));
  EXPECT_THAT(bench_table(series, TableStyle::markdown, true), HasSubstr("| cache-slots=16 | decode | warm  |"));
  EXPECT_THAT(bench_table(series, TableStyle::markdown, true), HasSubstr("| --- | --- |"));
  EXPECT_THAT(bench_table(series, TableStyle::csv, true),
              HasSubstr("\ncache-slots=16,decode,warm,5.00,5.00-5.00,0.500,0.500 (0.500-0.500),75 %,"));
}

TEST(BenchTable, ComparesWithTheSettingBefore) {
  // 1, 2, 5 tokens per second; then 2, 8, 5; then half of that in every repetition.
  const std::vector<BenchSeries> series{{"a", {decode_run(10), decode_run(5), decode_run(2)}},
                                        {"b", {decode_run(5), decode_run(1.25), decode_run(2)}},
                                        {"c", {decode_run(10), decode_run(2.5), decode_run(4), prefill_run(1)}}};
  const std::string table = bench_table(series, TableStyle::plain, true);
  EXPECT_THAT(table, ContainsRegex("\na +decode +warm +2.00 +1.00-5.00 +- +- +75 %"));
  EXPECT_THAT(table, ContainsRegex("\nb +decode +warm +5.00 +2.00-8.00 +2.500 +2.000 .1.000-4.000. +75 %"));
  EXPECT_THAT(table, ContainsRegex("\nc +decode +warm +2.50 +1.00-4.00 +0.500 +0.500 .0.500-0.500. +75 %"));
  EXPECT_THAT(table, ContainsRegex("\nc +prefill +cold +100.00 +100.00-100.00 +- +- "));
  const std::string apart = bench_table(series, TableStyle::plain, false);
  EXPECT_THAT(apart, Not(HasSubstr("ratio")));
  EXPECT_THAT(apart, Not(HasSubstr("2.500")));
}

TEST(BenchTable, TheMedianOfAnEvenNumberLiesBetweenTheTwoInTheMiddle) {
  const std::string table =
      bench_table({{"", {decode_run(1), decode_run(10), decode_run(2), decode_run(5)}}}, TableStyle::plain, false);
  EXPECT_THAT(table, HasSubstr("3.50   1.00-10.00"));
}

TEST(BenchTable, CountsTheBytesOfWrongGuessesAsRead) {
  BenchRun run = decode_run(1);
  run.statistics.decode_ahead.bytes_read = 25 << 20;
  run.statistics.decode_ahead.bytes_used = 5 << 20;
  EXPECT_THAT(bench_table({{"", {run}}}, TableStyle::plain, false), HasSubstr("3.00 MiB"));
}

TEST(BenchJson, HoldsTheRatios) {
  const std::vector<BenchSeries> series{{"a", {decode_run(10), decode_run(5)}}, {"b", {decode_run(5), decode_run(5)}}};
  EXPECT_FALSE(nlohmann::json::parse(bench_json(series, false)).contains("ratios"));
  const auto ratios = nlohmann::json::parse(bench_json(series, true))["ratios"];
  ASSERT_EQ(ratios.size(), 1U);
  EXPECT_EQ(ratios[0]["setting"], "b");
  EXPECT_EQ(ratios[0]["before"], "a");
  EXPECT_EQ(ratios[0]["phase"], "decode");
  EXPECT_EQ(ratios[0]["cache"], "warm");
  EXPECT_DOUBLE_EQ(ratios[0]["of_medians"], 2 / 1.5);
  EXPECT_EQ(ratios[0]["of_repetitions"], (std::vector<double>{2, 1}));
}

TEST(BenchLookahead, IsShownOnceAndKeptForEveryMeasurement) {
  BenchRun first = decode_run(1);
  first.lookahead = {0.8, {.chosen = 100, .found = 70}};
  BenchRun second = decode_run(1);
  second.lookahead = {0.8, {.chosen = 300, .found = 249}};
  const std::vector<BenchSeries> series{{"a", {first, prefill_run(1)}}, {"b", {second}}};
  EXPECT_THAT(lookahead_text(series), AllOf(HasSubstr("found 79.8 %"), HasSubstr(" 80 % were asked for")));
  EXPECT_EQ(lookahead_text({{"", {decode_run(1)}}}), "");
  const auto runs = nlohmann::json::parse(bench_json(series, false))["runs"];
  EXPECT_EQ(runs[0]["lookahead"]["achieved_recall"], 0.7);
  EXPECT_EQ(runs[0]["lookahead"]["configured_recall"], 0.8);
  EXPECT_TRUE(runs[1].at("lookahead").is_null());
  EXPECT_EQ(runs[2]["lookahead"]["achieved_recall"], 0.83);
}

TEST(BenchSvg, DrawsSpeedBoundsAndHitsAgainstTheSweptValue) {
  BenchRun other = decode_run(1);
  other.statistics.decode_lookups.hits = 20;
  other.statistics.schedule_bound = 40;
  const std::string svg = bench_svg({{"x=8", {decode_run(2)}}, {"x=4", {other, prefill_run(1)}}, {"x=6", {}}},
                                    {.label = "cache-slots", .values = {8, 4, 6}});
  std::vector<std::string> texts;
  const std::regex pattern(">([^<>\n]+)</text>");
  for (auto at = std::sregex_iterator(svg.begin(), svg.end(), pattern); at != std::sregex_iterator(); ++at) {
    texts.push_back((*at)[1]);
  }
  for (const char* text : {"measured", "schedule bound", "disk bound", "hits", "cache-slots", "tokens per second"}) {
    EXPECT_THAT(texts, Contains(text));
  }
  // Two points on each of the four lines, in the order of the values: those of x = 4 lie halfway.
  const std::regex circle("cx=\"([0-9.]+)\" cy=\"([0-9.]+)\"");
  std::vector<std::pair<double, double>> points;
  for (auto at = std::sregex_iterator(svg.begin(), svg.end(), circle); at != std::sregex_iterator(); ++at) {
    points.emplace_back(std::stod((*at)[1]), std::stod((*at)[2]));
  }
  ASSERT_EQ(points.size(), 8U);
  for (std::size_t line = 0; line < 4; ++line) EXPECT_LT(points[2 * line].first, points[2 * line + 1].first);
  EXPECT_LT(points[0].second, points[1].second) << "measured: 10 tokens per second with 4, 5 with 8 (downwards)";
  EXPECT_LT(points[2].second, points[3].second) << "schedule: 40 and 8";
  EXPECT_EQ(points[4].second, points[5].second) << "disk: 10 both times";
  EXPECT_EQ(points[0].second, points[4].second) << "of one scale";
  EXPECT_GT(points[6].second, points[7].second) << "hits: 25 % and 75 %";
}

TEST(BenchJson, HoldsEveryMeasurementWithItsStatistics) {
  const auto json = nlohmann::json::parse(bench_json({{"a", {decode_run(5), prefill_run(1), decode_run(2)}}}, false));
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
