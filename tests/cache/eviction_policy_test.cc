// Each policy beside its definition, computed from the whole history of lookups.
#include "cache/eviction_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace sluice::cache {
namespace {

constexpr int kExperts = 24;
using History = std::map<int, std::vector<std::uint64_t>>;  // expert -> steps of its lookups

double decayed_score(const std::vector<std::uint64_t>& lookups, std::uint64_t now) {
  double score = 0;
  for (const std::uint64_t step : lookups) score += std::exp2(-static_cast<double>(now - step) / 12.0);
  return score;
}

// Runs a drifting random trace through a policy and gives every victim to `check`.
void replay(
    std::string_view policy_name, unsigned seed,
    const std::function<void(int victim, const std::vector<int>& candidates, const History&, std::uint64_t)>& check) {
  const auto policy = eviction_policy(policy_name).create(kExperts);
  std::mt19937 random(seed);
  const auto below = [&random](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
  History history;
  std::set<int> known;
  std::uint64_t step = 1'000'000;  // an old session
  for (int i = 0; i < 3000; ++i) {
    step += static_cast<std::uint64_t>(below(50) == 0 ? below(5000) : below(2));
    const int expert = (below(6) + below(6) + i / 100) % kExperts;
    policy->touch(expert, step);
    history[expert].push_back(step);
    known.insert(expert);
    std::vector<int> candidates;
    for (const int candidate : known) {
      if (below(3) > 0) candidates.push_back(candidate);
    }
    if (candidates.empty()) continue;
    std::shuffle(candidates.begin(), candidates.end(), random);
    const int victim = policy->victim(candidates, step);
    ASSERT_NE(std::find(candidates.begin(), candidates.end(), victim), candidates.end());
    check(victim, candidates, history, step);
    std::shuffle(candidates.begin(), candidates.end(), random);
    EXPECT_EQ(policy->victim(candidates, step), victim) << "whatever the order of the candidates";
  }
}

TEST(LruPolicy, EvictsTheOldestLookupThenTheLowestId) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    replay("lru", seed, [](int victim, const std::vector<int>& candidates, const History& history, std::uint64_t) {
      const auto expected = *std::min_element(candidates.begin(), candidates.end(), [&](int a, int b) {
        return std::pair(history.at(a).back(), a) < std::pair(history.at(b).back(), b);
      });
      EXPECT_EQ(victim, expected);
    });
  }
}

TEST(DecayPolicy, EvictsTheLowestDecayedFrequency) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    replay(
        "decay", seed, [](int victim, const std::vector<int>& candidates, const History& history, std::uint64_t now) {
          for (const int candidate : candidates) {
            // Sums of powers that differ by rounding alone may be ranked either way.
            EXPECT_LE(decayed_score(history.at(victim), now), decayed_score(history.at(candidate), now) * (1 + 1e-6));
          }
        });
  }
}

TEST(DecayPolicy, ForgetsALongHistoryAfterAWhile) {
  const auto policy = eviction_policy("decay").create(3);
  for (std::uint64_t step = 0; step < 1000; ++step) policy->touch(0, step);
  policy->touch(1, 1001);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, 1001), 1) << "one lookup does not outweigh a thousand";
  policy->touch(1, 1120);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, 1120), 0) << "ten half-lives later it does";
}

TEST(DecayPolicy, BreaksTiesByIdAmongEqualHistories) {
  const auto policy = eviction_policy("decay").create(4);
  for (const int expert : {3, 1, 2}) policy->touch(expert, 10);
  EXPECT_EQ(policy->victim(std::vector{3, 2, 1}, 12), 1);
}

TEST(DecayPolicy, StillRanksAfterMillionsOfSteps) {
  const auto policy = eviction_policy("decay").create(2);
  const std::uint64_t late = 1'000'000'000;
  policy->touch(0, late);
  policy->touch(1, late + 1);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, late + 1), 0);
  policy->touch(0, late + 1);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, late + 1), 1);
}

TEST(EvictionPolicies, AreFoundByTheirNamesAndTheFirstIsTheDefault) {
  EXPECT_EQ(eviction_policies().front().name, "decay");
  for (const PolicyEntry& entry : eviction_policies()) EXPECT_EQ(eviction_policy(entry.name).create, entry.create);
}

TEST(EvictionPolicies, AnUnknownNameIsAUsageErrorThatListsTheKnown) {
  try {
    eviction_policy("fifo");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()), "--policy fifo: no such eviction policy; known are decay, lru");
  }
}

}  // namespace
}  // namespace sluice::cache
