// The bounds of a run.
#include "model/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/units.h"

namespace sluice::model {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kLoose = 1e12;  // a rate that never binds

/// A prompt of 1,000 tokens in 10 s, in two chunks that looked up 300 experts of 10 MiB; 150 of them were read.
RunStatistics prompt() {
  RunStatistics s;
  s.model.moe_layers = 2;
  s.model.top_k = 4;
  s.model.prefill_chunk = 512;
  s.model.token_dense_bytes = 300 * kMiB;
  s.model.head_bytes = 100 * kMiB;
  s.model.token_expert_bytes = 80 * kMiB;
  s.model.prompt_weights = 1'000'000;
  s.generation.prompt_tokens = 1000;
  s.generation.prefill_seconds = 10;
  s.prefill_lookups.lookups = 300;
  s.prefill_lookups.hits = 150;
  s.prefill_lookups.bytes_read = 1500 * kMiB;
  s.rates.disk = kLoose;
  s.rates.memory = kLoose;
  s.rates.multiply = kLoose;
  return s;
}

TEST(PrefillBound, OfTheDiskCountsWhatWasRead) {
  RunStatistics s = prompt();
  s.rates.disk = 300.0 * kMiB;  // 5 s
  EXPECT_DOUBLE_EQ(s.prefill_disk_bound().value(), 200);
  EXPECT_EQ(s.prefill_bound().value().resource, "disk");
  s.prefill_lookups.bytes_read = 0;
  EXPECT_FALSE(s.prefill_disk_bound().has_value());
}

TEST(PrefillBound, OfMemoryCountsDenseWeightsPerChunkTheHeadOnceAndEachLookup) {
  RunStatistics s = prompt();
  s.rates.memory = 3500.0 * kMiB / 4;  // 2 x 200 + 100 + 300 x 10 MiB in 4 s
  EXPECT_DOUBLE_EQ(s.prefill_memory_bound().value(), 250);
  EXPECT_EQ(s.prefill_bound().value().resource, "memory");
  s.generation.prompt_tokens = 1025;  // begins a third chunk
  EXPECT_DOUBLE_EQ(s.prefill_memory_bound().value(), 1025 / (4 * 3700.0 / 3500.0));
}

TEST(PrefillBound, OfMultiplicationCountsEveryToken) {
  RunStatistics s = prompt();
  s.rates.multiply = 125e6;
  EXPECT_DOUBLE_EQ(s.prefill_multiply_bound().value(), 125);
  EXPECT_EQ(s.prefill_bound().value().resource, "multiplication");
  EXPECT_DOUBLE_EQ(s.prefill_bound().value().tok_per_s, 125);
  EXPECT_THAT(statistics_text(s),
              HasSubstr("100.0 tok/s   read 1.46 GiB   80 % of the 125.0 tok/s that multiplication"));
  const auto json = nlohmann::json::parse(statistics_json(s));
  EXPECT_EQ(json["prefill"]["bound"]["multiply_tok_per_s"], 125.0);
  EXPECT_EQ(json["prefill"]["bound"]["max_tok_per_s"], 125.0);
  EXPECT_EQ(json["prefill"]["bound"]["fraction"], 0.8);
  EXPECT_EQ(json["prefill"]["bound"]["binding"], "multiplication");
}

TEST(PrefillBound, IsNotMadeUp) {
  RunStatistics s = prompt();
  s.rates = {};
  EXPECT_FALSE(s.prefill_bound().has_value());
  EXPECT_THAT(statistics_text(s), Not(HasSubstr("allows")));
  s = prompt();
  s.generation.prompt_tokens = 0;
  EXPECT_FALSE(s.prefill_bound().has_value());
  EXPECT_TRUE(nlohmann::json::parse(statistics_json(s))["prefill"]["bound"]["fraction"].is_null());
}

}  // namespace
}  // namespace sluice::model
