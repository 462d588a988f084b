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
    policy->touch(expert, step, 0);
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

using Rows = std::vector<std::vector<int>>;

/// `count` tokens with three experts each; favourites move.
Rows random_rows(int count, unsigned seed) {
  std::mt19937 random(seed);
  Rows rows;
  for (int row = 0; row < count; ++row) {
    std::set<int> ids;
    while (ids.size() < 3) {
      ids.insert(static_cast<int>((random() % 5 + random() % 5 + static_cast<unsigned>(row) / 9) % kExperts));
    }
    rows.emplace_back(ids.begin(), ids.end());
  }
  return rows;
}

/// Tells a policy of the rows as one request.
void touch_chunk(EvictionPolicy& policy, const Rows& rows, std::uint64_t step) {
  std::set<int> distinct;
  for (const std::vector<int>& row : rows) distinct.insert(row.begin(), row.end());
  std::vector<ExpertUse> uses;
  for_recent_uses(
      rows.size(), [&](std::size_t row) { return std::span(rows[row]); }, [&](ExpertUse use) { uses.push_back(use); });
  touch_request(policy, std::span<const int>(std::vector(distinct.begin(), distinct.end())), uses, step);
}

/// Ids in the order in which the policy would evict them.
std::vector<int> eviction_order(EvictionPolicy& policy, std::vector<int> ids, std::uint64_t step) {
  std::vector<int> order;
  while (!ids.empty()) {
    order.push_back(policy.victim(ids, step));
    ids.erase(std::find(ids.begin(), ids.end(), order.back()));
  }
  return order;
}

TEST(EvictionPolicies, AChunkCountsLikeItsLastTokensDecodedOneByOne) {
  for (const PolicyEntry& entry : eviction_policies()) {
    for (unsigned seed = 1; seed <= 5; ++seed) {
      const Rows rows = random_rows(kRecentTokens, seed);
      const auto chunk = entry.create(kExperts);
      const auto tokens = entry.create(kExperts);
      const std::uint64_t last = 1000;
      touch_chunk(*chunk, rows, last);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const std::vector<int>& ids = rows[row];
        touch_request(*tokens, std::span(ids), {}, last - (rows.size() - 1 - row));
      }
      std::set<int> used;
      for (const std::vector<int>& row : rows) used.insert(row.begin(), row.end());
      // The one old use that a request adds for each of its experts is the same for all and changes no order.
      const std::vector<int> ids(used.begin(), used.end());
      EXPECT_EQ(eviction_order(*chunk, ids, last), eviction_order(*tokens, ids, last)) << entry.name << seed;
    }
  }
}

TEST(EvictionPolicies, OfALongChunkTheLastTokensDecide) {
  for (const PolicyEntry& entry : eviction_policies()) {
    Rows rows(200, {0});  // expert 0 is the hottest of the chunk by far, but long ago
    rows.insert(rows.end(), kRecentTokens, {1, 2});
    rows.push_back({2});
    const auto policy = entry.create(4);
    policy->touch(3, 6, 0);  // before the chunk
    touch_chunk(*policy, rows, 7);
    EXPECT_EQ(eviction_order(*policy, {0, 1, 2}, 7), (std::vector{0, 1, 2})) << entry.name;
  }
}

TEST(RecentUses, AreThoseOfTheLastTokens) {
  const auto uses_of = [](std::size_t count) {
    Rows rows;
    for (std::size_t row = 0; row < count; ++row) rows.push_back({static_cast<int>(row), 500});
    std::vector<std::pair<int, int>> uses;
    for_recent_uses(
        count, [&](std::size_t row) { return std::span(rows[row]); },
        [&](ExpertUse use) { uses.emplace_back(use.expert, use.age); });
    return uses;
  };
  EXPECT_TRUE(uses_of(0).empty());
  EXPECT_TRUE(uses_of(1).empty()) << "one token uses what its request asks for";
  using Pairs = std::vector<std::pair<int, int>>;
  EXPECT_EQ(uses_of(2), (Pairs{{0, 1}, {500, 1}, {1, 0}, {500, 0}}));
  const auto many = uses_of(100);
  ASSERT_EQ(many.size(), 2U * kRecentTokens);
  EXPECT_EQ(many.front(), (std::pair{100 - kRecentTokens, kRecentTokens - 1}));
  EXPECT_EQ(many.back(), (std::pair{500, 0}));
}

TEST(DecayPolicy, ForgetsALongHistoryAfterAWhile) {
  const auto policy = eviction_policy("decay").create(3);
  for (std::uint64_t step = 0; step < 1000; ++step) policy->touch(0, step, 0);
  policy->touch(1, 1001, 0);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, 1001), 1) << "one lookup does not outweigh a thousand";
  policy->touch(1, 1120, 0);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, 1120), 0) << "ten half-lives later it does";
}

TEST(DecayPolicy, BreaksTiesByIdAmongEqualHistories) {
  const auto policy = eviction_policy("decay").create(4);
  for (const int expert : {3, 1, 2}) policy->touch(expert, 10, 0);
  EXPECT_EQ(policy->victim(std::vector{3, 2, 1}, 12), 1);
}

TEST(DecayPolicy, StillRanksAfterMillionsOfSteps) {
  const auto policy = eviction_policy("decay").create(2);
  const std::uint64_t late = 1'000'000'000;
  policy->touch(0, late, 0);
  policy->touch(1, late + 1, 0);
  EXPECT_EQ(policy->victim(std::vector{0, 1}, late + 1), 0);
  policy->touch(0, late + 1, 0);
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
