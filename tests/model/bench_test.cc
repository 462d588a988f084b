#include "model/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/routes/route_generator.h"

namespace sluice::model {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const std::filesystem::path kModel =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models/qwen3_moe-many-affine4-gs32";

RuntimeSettings few_slots() {
  RuntimeSettings settings;
  settings.cache_slots = 8;
  return settings;
}

std::vector<BenchRun> measure(const BenchRequest& request, std::vector<std::string>* said = nullptr) {
  return bench(kModel, few_slots(), {}, request, [&](std::string_view what) {
    if (said != nullptr) said->emplace_back(what);
  });
}

TEST(Bench, MeasuresPrefillAndDecodeColdAndWarm) {
  BenchRequest request{.prompt_tokens = 20, .decode_tokens = 6, .warm_up = 3};
  std::vector<std::string> said;
  const std::vector<BenchRun> runs = measure(request, &said);
  EXPECT_THAT(said, testing::ElementsAre("decode, cold", "prefill, cold", "warm-up", "decode, warm", "prefill, warm"));
  ASSERT_EQ(runs.size(), 4U);
  for (const BenchRun& run : runs) {
    const bool prefill = run.phase == cache::Phase::prefill;
    const RunStatistics& s = run.statistics;
    EXPECT_EQ(s.generation.prompt_tokens, prefill ? 20 : 0);
    EXPECT_EQ(s.generation.decode_steps, prefill ? 0 : 6);
    EXPECT_EQ(run.tokens.size(), prefill ? 1U : 6U);
    // Only its own lookups: the model has two MoE layers and takes top_k experts per token.
    const cache::LookupCounts& other = prefill ? s.decode_lookups : s.prefill_lookups;
    const cache::LookupCounts& own = prefill ? s.prefill_lookups : s.decode_lookups;
    EXPECT_EQ(other.lookups, 0U);
    EXPECT_EQ(own.hits + own.misses_cold + own.misses_capacity, own.lookups);
    if (!prefill) {
      EXPECT_EQ(own.lookups, static_cast<std::uint64_t>(6 * s.model.moe_layers * s.model.top_k));
      EXPECT_TRUE(s.schedule_bound.has_value());
    }
    EXPECT_GT(s.rates.disk, 0);
    EXPECT_GT(s.rates.memory, 0);
    EXPECT_EQ(s.rates.multiply > 0, prefill) << "only prompts need it";
    EXPECT_EQ(s.prefill_multiply_bound().has_value(), prefill);
  }
  EXPECT_EQ(runs[0].cache, BenchCache::cold);
  EXPECT_EQ(runs[1].statistics.prefill_lookups.hits, 0U);  // cold
  EXPECT_GT(runs[3].statistics.prefill_lookups.hits, 0U);  // warm
}

TEST(Bench, TheSameSeedDecodesTheSameTokens) {
  const BenchRequest request{.prompt_tokens = 0, .decode_tokens = 5, .warm_up = 2};
  const std::vector<BenchRun> first = measure(request);
  const std::vector<BenchRun> second = measure(request);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].tokens, second[0].tokens);
  EXPECT_EQ(first[1].tokens, second[1].tokens);
}

TEST(Bench, TakesRoutesFromAGenerator) {
  const BenchRequest own{.prompt_tokens = 0, .decode_tokens = 40, .warm_up = 0};
  BenchRequest generated = own;
  generated.routing = "gen:qwen3-30b";
  const RunStatistics with = measure(generated)[1].statistics;
  const RunStatistics without = measure(own)[1].statistics;
  // Of the model's own shape, whatever the profile was fitted to; and not the model's routes.
  EXPECT_EQ(with.decode_lookups.lookups, without.decode_lookups.lookups);
  EXPECT_NE(with.decode_lookups.hits, without.decode_lookups.hits);
}

TEST(Bench, ReadsAheadByGuessesThatAreAsGoodAsAskedFor) {
  RuntimeSettings settings = few_slots();
  BenchRequest request{.prompt_tokens = 0, .decode_tokens = 200, .warm_up = 0};
  request.routing = "gen:qwen3-30b";
  request.lookahead_recall = 0.7;
  const auto decode = [&](cache::LookaheadMode mode) {
    settings.prefetch = mode;
    return bench(kModel, settings, {}, request, [](std::string_view) {}).front();
  };
  const BenchRun with = decode(cache::LookaheadMode::on);
  ASSERT_TRUE(with.lookahead.has_value());
  EXPECT_EQ(with.lookahead->configured_recall, 0.7);
  const ModelInfo& model = with.statistics.model;
  EXPECT_LE(with.lookahead->counts.chosen, static_cast<std::uint64_t>(200 * (model.moe_layers - 1) * model.top_k))
      << "the first layer is never guessed";
  EXPECT_NEAR(with.lookahead->achieved_recall(), 0.7, 0.04);
  const BenchRun without = decode(cache::LookaheadMode::off);
  EXPECT_FALSE(without.lookahead.has_value());
  EXPECT_EQ(with.tokens, without.tokens) << "guesses change no route";
  EXPECT_EQ(with.statistics.decode_lookups.hits, without.statistics.decode_lookups.hits);
  request.routing = "model";
  EXPECT_FALSE(decode(cache::LookaheadMode::on).lookahead.has_value()) << "those are its own guesses";
}

TEST(Bench, RefusesUnknownSourcesOfRoutes) {
  BenchRequest request{.prompt_tokens = 0, .decode_tokens = 1, .warm_up = 0};
  request.routing = "random";
  EXPECT_THAT([&] { measure(request); }, ThrowsMessage<UsageError>(HasSubstr("gen:NAME")));
  request.routing = "gen:qwen3-30";
  EXPECT_THAT([&] { measure(request); }, ThrowsMessage<UsageError>(HasSubstr("qwen3-30b")));
  request.routing = "trace:/none";
  EXPECT_THAT([&] { measure(request); }, ThrowsMessage<Error>(HasSubstr("/none")));
}

TEST(Bench, EndsEarlyWhenCancelled) {
  const std::atomic<bool> cancel = true;
  const std::vector<BenchRun> runs = bench(
      kModel, few_slots(), {}, {}, [](std::string_view) {}, &cancel);
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].statistics.generation.decode_steps, 0);
}

}  // namespace
}  // namespace sluice::model
