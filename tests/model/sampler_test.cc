// Choosing tokens, against exact probabilities and a naive model of the filters.
#include "model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "base/error.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int sample(Sampler& sampler, std::vector<float> logits, const std::vector<int>& history = {}) {
  return sampler.sample(logits, history);
}

std::vector<float> random_logits(std::mt19937& random, std::size_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

/// What the filters leave: probability by token, straight from their definitions.
std::map<int, double> naive_distribution(const SamplingParams& params, const std::vector<float>& logits) {
  std::vector<std::pair<double, int>> tokens;
  for (std::size_t i = 0; i < logits.size(); ++i) tokens.emplace_back(-logits[i] / params.temperature, i);
  std::sort(tokens.begin(), tokens.end());
  if (params.top_k > 0) tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(params.top_k)));
  const auto normalize = [&] {
    const double highest = tokens.front().first;
    double total = 0;
    for (const auto& [negative, id] : tokens) total += std::exp(highest - negative);
    std::map<int, double> probabilities;
    for (const auto& [negative, id] : tokens) probabilities[id] = std::exp(highest - negative) / total;
    return probabilities;
  };
  std::map<int, double> probabilities = normalize();
  double sum = 0;
  std::size_t kept = 0;
  while (kept < tokens.size() && (kept == 0 || sum < params.top_p)) sum += probabilities[tokens[kept++].second];
  if (params.top_p < 1) tokens.resize(kept);
  probabilities = normalize();
  const double highest = probabilities[tokens.front().second];
  std::erase_if(tokens, [&](const auto& token) { return probabilities[token.second] < params.min_p * highest; });
  return normalize();
}

/// Pearson's chi-square of `draws` draws against the naive distribution, and a bound that chance exceeds less than
/// once in a million.
void expect_distribution(const SamplingParams& params, const std::vector<float>& logits, int draws) {
  const std::map<int, double> expected = naive_distribution(params, logits);
  Sampler sampler(params);
  std::map<int, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sample(sampler, logits)];
  double chi_square = 0;
  double rare_expected = 0;  // cells too rare for the test are taken together
  double rare_count = 0;
  int cells = 0;
  for (const auto& [id, probability] : expected) {
    if (probability * draws < 10) {
      rare_expected += probability * draws;
      rare_count += counts[id];
    } else {
      chi_square += std::pow(counts[id] - probability * draws, 2) / (probability * draws);
      ++cells;
    }
  }
  if (rare_expected > 10) chi_square += std::pow(rare_count - rare_expected, 2) / rare_expected;
  for (const auto& [id, count] : counts) EXPECT_TRUE(expected.contains(id)) << "token " << id << " was filtered out";
  EXPECT_LT(chi_square, cells + 5 * std::sqrt(2.0 * cells) + 25) << cells << " cells";
}

TEST(Sampler, FollowsTheDistribution) {
  std::mt19937 random(9);
  const std::vector<float> logits = random_logits(random, 50, 2);
  SamplingParams params;
  params.seed = 1;
  params.temperature = 1;
  expect_distribution(params, logits, 20'000);
  params.temperature = 0.7F;
  expect_distribution(params, logits, 20'000);
  params.top_k = 20;
  expect_distribution(params, logits, 20'000);
  params.top_p = 0.9F;
  expect_distribution(params, logits, 20'000);
  params.min_p = 0.05F;
  expect_distribution(params, logits, 20'000);
}

TEST(Sampler, KeepsTheTokensOfTheNaiveFilters) {
  std::mt19937 random(10);
  for (int round = 0; round < 60; ++round) {
    SamplingParams params;
    params.seed = random();
    params.temperature = 0.5F + static_cast<float>(random() % 100) / 20;  // flat, so that rare tokens are seen
    if (random() % 2 == 0) params.top_k = 1 + static_cast<int>(random() % 30);
    if (random() % 2 == 0) params.top_p = 0.05F + 0.9F * static_cast<float>(random() % 100) / 100;
    if (random() % 2 == 0) params.min_p = static_cast<float>(random() % 100) / 100;
    const std::vector<float> logits = random_logits(random, 1 + random() % 25, 1);
    const std::map<int, double> expected = naive_distribution(params, logits);
    Sampler sampler(params);
    std::set<int> seen;
    for (int i = 0; i < 2000; ++i) seen.insert(sample(sampler, logits));
    for (const int id : seen) EXPECT_TRUE(expected.contains(id)) << round;
    for (const auto& [id, probability] : expected) {
      EXPECT_TRUE(probability < 0.02 || seen.contains(id)) << round << ": " << probability;
    }
  }
}

TEST(Sampler, FindsTheNucleusOfALargeVocabulary) {
  // More than one round of partial sorting.
  std::mt19937 random(11);
  const std::vector<float> logits = random_logits(random, 5000, 1);
  SamplingParams params;
  params.temperature = 1;
  params.top_p = 0.6F;
  const std::map<int, double> expected = naive_distribution(params, logits);
  ASSERT_GT(expected.size(), 600);
  Sampler sampler(params);
  int rare = 0;  // rarer than the 128 tokens that are sorted first
  for (int i = 0; i < 500; ++i) {
    const int id = sample(sampler, logits);
    ASSERT_TRUE(expected.contains(id)) << id;
    if (expected.at(id) < 0.001) ++rare;
  }
  EXPECT_GT(rare, 100);
}

TEST(Sampler, KeepsTheMostProbableTokenWhateverTheFilters) {
  SamplingParams params;
  params.temperature = 2;
  params.top_p = 1e-6F;
  Sampler nucleus(params);
  params.top_p = 1;
  params.min_p = 1;
  Sampler minimum(params);
  params.min_p = 0;
  params.top_k = 1;
  Sampler one(params);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(sample(nucleus, {0, 1, 3, 2}), 2);
    EXPECT_EQ(sample(minimum, {0, 1, 3, 2}), 2);
    EXPECT_EQ(sample(one, {0, 1, 3, 2}), 2);
    EXPECT_EQ(sample(one, {0, 3, 3, 2}), 1);  // of equals the lowest id
  }
}

TEST(Sampler, IsGreedyAtTemperatureZero) {
  Sampler sampler(SamplingParams{});
  EXPECT_EQ(sample(sampler, {0, 2, 5, 5, -1}), 2);
  EXPECT_EQ(sample(sampler, {-kInfinity, -8, -kInfinity}), 1);
  EXPECT_EQ(sample(sampler, {0, 2, 5}, {2, 2, 2}), 2) << "no penalty unless asked for";
  EXPECT_EQ(sampler.rng_state(), 0) << "no random numbers are used";
}

TEST(Sampler, WorksAtExtremeTemperatures) {
  SamplingParams params;
  params.temperature = std::numeric_limits<float>::denorm_min();
  Sampler cold(params);
  params.temperature = std::numeric_limits<float>::max();
  Sampler hot(params);
  std::set<int> seen;
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(sample(cold, {1, 1.0001F, -3e38F, 0}), 1);
    seen.insert(sample(hot, {0, 50, -kInfinity, 100}));
  }
  EXPECT_THAT(seen, ::testing::ElementsAre(0, 1, 3));
}

TEST(Sampler, PenalizesEachRecentTokenOnce) {
  SamplingParams params;
  params.repeat_penalty = 2;
  params.repeat_last_n = 3;
  Sampler sampler(params);
  const std::vector<int> history = {0, 1, 3, 3, 99, -1};
  std::vector<float> logits = {8, -1, 4, 6, 0};
  sampler.sample(logits, history);
  EXPECT_THAT(logits, ::testing::ElementsAre(8, -1, 4, 3, 0)) << "ids outside of the vocabulary are ignored";

  params.repeat_last_n = -1;
  logits = {8, -1, 4, 6, 0};
  EXPECT_EQ(Sampler(params).sample(logits, history), 0);
  EXPECT_THAT(logits, ::testing::ElementsAre(4, -2, 4, 3, 0)) << "negative logits are multiplied";

  params.repeat_last_n = 0;
  logits = {8, -1, 4, 6, 0};
  Sampler(params).sample(logits, history);
  EXPECT_THAT(logits, ::testing::ElementsAre(8, -1, 4, 6, 0));

  params.repeat_last_n = 64;
  logits = {8, 5};
  EXPECT_EQ(Sampler(params).sample(logits, std::vector<int>{0}), 1) << "greedy after the penalty";
}

std::vector<int> many(const SamplingParams& params, int count) {
  Sampler sampler(params);
  std::vector<int> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(sample(sampler, std::vector<float>(1000, 0)));
  return tokens;
}

TEST(Sampler, RepeatsItselfWithTheSameSeed) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 42;
  const std::vector<int> tokens = many(params, 20);
  EXPECT_EQ(many(params, 20), tokens);
  std::set<std::vector<int>> different = {tokens};
  for (const std::uint64_t seed : {0ULL, 1ULL, 43ULL, ~0ULL}) {
    params.seed = seed;
    EXPECT_TRUE(different.insert(many(params, 20)).second) << seed;
  }
}

TEST(Sampler, DrawsTheNumbersOfSplitMix64) {
  // The published first outputs of seed 1234567, scaled to 1000 equal tokens.
  const std::uint64_t outputs[] = {6457827717110365317U, 3203168211198807973U, 9817491932198370423U};
  SamplingParams params;
  params.temperature = 1;
  params.seed = 1234567;
  const std::vector<int> tokens = many(params, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(tokens[i], static_cast<int>(std::floor(static_cast<double>(outputs[i]) * 0x1p-64 * 1000)));
  }
}

TEST(Sampler, GoesOnFromASavedState) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 5;
  const std::vector<int> tokens = many(params, 10);
  Sampler first(params);
  for (int i = 0; i < 4; ++i) sample(first, std::vector<float>(1000, 0));
  Sampler second(params);
  second.set_rng_state(first.rng_state());
  for (std::size_t i = 4; i < 10; ++i) EXPECT_EQ(sample(second, std::vector<float>(1000, 0)), tokens[i]);
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  SamplingParams params;
  for (const float temperature : {0.0F, 1.0F}) {
    params.temperature = temperature;
    Sampler sampler(params);
    const auto message = [&](const std::vector<float>& logits) {
      return message_of<Error>([&] { sample(sampler, logits); });
    };
    EXPECT_THAT(message({0, std::nanf(""), 1}), HasSubstr("the logit of token 1 is nan"));
    EXPECT_THAT(message({0, 1, kInfinity}), HasSubstr("the logit of token 2 is inf"));
    EXPECT_THAT(message({-kInfinity, -kInfinity}), HasSubstr("every token is excluded"));
    EXPECT_THAT(message({}), HasSubstr("every token is excluded"));
  }
}

TEST(SamplingParams, AreCheckedByFlag) {
  EXPECT_NO_THROW(check(SamplingParams{}));
  const auto message = [](auto change) {
    SamplingParams params;
    change(params);
    return message_of<UsageError>([&] { check(params); });
  };
  const float nan = std::nanf("");
  EXPECT_THAT(message([](auto& p) { p.temperature = -0.1F; }), HasSubstr("--temp: is -0.1, expected"));
  EXPECT_THAT(message([&](auto& p) { p.temperature = nan; }), HasSubstr("--temp"));
  EXPECT_THAT(message([](auto& p) { p.temperature = kInfinity; }), HasSubstr("--temp"));
  EXPECT_THAT(message([](auto& p) { p.top_k = -1; }), HasSubstr("--top-k: is -1"));
  EXPECT_THAT(message([](auto& p) { p.top_p = 0; }), HasSubstr("--top-p: is 0"));
  EXPECT_THAT(message([](auto& p) { p.top_p = 1.5F; }), HasSubstr("--top-p: is 1.5"));
  EXPECT_THAT(message([&](auto& p) { p.top_p = nan; }), HasSubstr("--top-p"));
  EXPECT_THAT(message([](auto& p) { p.min_p = -1; }), HasSubstr("--min-p: is -1"));
  EXPECT_THAT(message([](auto& p) { p.min_p = 2; }), HasSubstr("--min-p: is 2"));
  EXPECT_THAT(message([](auto& p) { p.repeat_penalty = 0; }), HasSubstr("--repeat-penalty: is 0"));
  EXPECT_THAT(message([&](auto& p) { p.repeat_penalty = nan; }), HasSubstr("--repeat-penalty"));
  EXPECT_THAT(message([](auto& p) { p.repeat_last_n = -2; }), HasSubstr("--repeat-last-n: is -2"));
}

}  // namespace
}  // namespace sluice::model
