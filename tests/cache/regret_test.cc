// Belady's policy beside a naive one and beside every possible sequence of evictions; the history of a run.
#include "cache/regret.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "cache/route_log_support.h"

namespace sluice::cache {
namespace {

using Ids = std::set<int>;

Ids ids_of(const RouteLog& log, std::size_t index) { return {log[index].ids.begin(), log[index].ids.end()}; }

// The request after `from` that needs the expert in that layer; the end if none does.
std::size_t next_use(const RouteLog& log, std::size_t from, int layer, int expert) {
  for (std::size_t i = from + 1; i < log.size(); ++i) {
    if (log[i].layer == layer && ids_of(log, i).contains(expert)) return i;
  }
  return log.size();
}

// Looks ahead in the log for every decision.
LookupCounts naive_belady(const RouteLog& log, std::size_t slots, std::size_t first_counted) {
  std::map<int, Ids> here, known;
  LookupCounts counts;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const int layer = log[i].layer;
    const Ids request = ids_of(log, i);
    const auto later = [&](int a, int b) { return next_use(log, i, layer, a) < next_use(log, i, layer, b); };
    LookupCounts of_request;
    of_request.lookups = request.size();
    for (const int id : request) {
      if (here[layer].contains(id)) {
        ++of_request.hits;
      } else {
        ++(known[layer].contains(id) ? of_request.misses_capacity : of_request.misses_cold);
      }
    }
    known[layer].insert(request.begin(), request.end());
    if (request.size() > slots) here[layer].clear();
    here[layer].insert(request.begin(), request.end());
    while (here[layer].size() > slots) {
      std::vector<int> candidates;
      for (const int id : here[layer]) {
        if (request.size() > slots || !request.contains(id)) candidates.push_back(id);
      }
      here[layer].erase(*std::max_element(candidates.begin(), candidates.end(), later));
    }
    if (i >= first_counted && log[i].phase == Phase::decode) counts += of_request;
  }
  return counts;
}

TEST(Belady, CountsAsTheNaiveOne) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    const RouteLog log = random_log(2, 16, 60, seed);
    for (const int slots : {1, 3, 6, 9, 16, 40}) {
      for (const std::size_t first : {std::size_t{0}, log.size() / 3}) {
        const LookupCounts clever = simulate_belady(log, slots, first).counts(Phase::decode);
        const LookupCounts naive = naive_belady(log, static_cast<std::size_t>(std::min(slots, 16)), first);
        EXPECT_EQ(clever.lookups, naive.lookups);
        EXPECT_EQ(clever.hits, naive.hits) << slots << " slots, seed " << seed;
        EXPECT_EQ(clever.misses_cold, naive.misses_cold);
        EXPECT_EQ(clever.misses_capacity, naive.misses_capacity);
      }
    }
  }
}

// The most hits that any choice of victims reaches, when a request's experts are pinned.
std::uint64_t most_hits(const RouteLog& log, std::size_t slots, std::size_t index, const Ids& here) {
  if (index == log.size()) return 0;
  const Ids request = ids_of(log, index);
  std::uint64_t hits = 0;
  for (const int id : request) hits += here.contains(id) ? 1 : 0;
  Ids all = here;
  all.insert(request.begin(), request.end());
  std::vector<int> others;  // that may leave
  std::set_difference(all.begin(), all.end(), request.begin(), request.end(), std::back_inserter(others));
  const std::size_t leaving = all.size() > slots ? all.size() - slots : 0;
  std::uint64_t best = 0;
  std::vector<bool> chosen(others.size(), false);
  std::fill(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(leaving), true);
  do {
    Ids rest = all;
    for (std::size_t i = 0; i < others.size(); ++i) {
      if (chosen[i]) rest.erase(others[i]);
    }
    best = std::max(best, most_hits(log, slots, index + 1, rest));
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return hits + best;
}

TEST(Belady, NoChoiceOfVictimsHitsMore) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    RouteLog log(1, 7);
    for (std::uint64_t step = 0; step < 9; ++step) {
      std::vector<std::uint16_t> ids;
      for (int i = 0; i < 2; ++i) ids.push_back(static_cast<std::uint16_t>(random() % 7));
      log.add(0, Phase::decode, step, ids);
    }
    for (const int slots : {2, 3, 4}) {
      EXPECT_EQ(simulate_belady(log, slots).counts(Phase::decode).hits,
                most_hits(log, static_cast<std::size_t>(slots), 0, {}))
          << round;
    }
  }
}

TEST(Regret, NoPolicyBeatsBeladyAndSizesAreHalfAndDouble) {
  for (const PolicyEntry& policy : eviction_policies()) {
    const RouteLog log = random_log(3, 24, 200, 11);
    for (const int slots : {6, 9, 20}) {
      const Regret regret = compute_regret(log, slots, policy);
      const auto rate = [&](int n) {
        const LookupCounts counts = simulate(log, n, policy).counts(Phase::decode);
        return static_cast<double>(counts.hits) / static_cast<double>(counts.lookups);
      };
      ASSERT_TRUE(regret.belady_hit_rate && regret.half_slots_hit_rate && regret.double_slots_hit_rate);
      EXPECT_GE(*regret.belady_hit_rate, rate(slots));
      EXPECT_EQ(*regret.half_slots_hit_rate, rate(slots / 2));
      EXPECT_EQ(*regret.double_slots_hit_rate, rate(std::min(24, 2 * slots)));
    }
  }
}

TEST(Regret, OneSlotHasNoHalf) {
  const RouteLog log = random_log(1, 4, 20, 3);
  EXPECT_EQ(compute_regret(log, 1, eviction_policy("lru")).half_slots_hit_rate,
            compute_regret(log, 2, eviction_policy("lru")).half_slots_hit_rate);
}

TEST(Regret, NothingDecodedIsNotKnown) {
  RouteLog log(1, 4);
  log.add(0, Phase::prefill, 0, std::vector<std::uint16_t>{1, 2});
  const Regret regret = compute_regret(log, 2, eviction_policy("decay"));
  EXPECT_FALSE(regret.belady_hit_rate);
  EXPECT_FALSE(regret.half_slots_hit_rate);
  EXPECT_FALSE(regret.double_slots_hit_rate);
}

// Three requests a step, each for the number of its step.
void add_steps(RouteHistory& history, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t step = from; step < to; ++step) {
    for (int layer = 0; layer < 3; ++layer) {
      history.add(layer, Phase::decode, step, std::vector<std::uint16_t>{static_cast<std::uint16_t>(step % 8)});
    }
  }
}

TEST(RouteHistoryTest, KeepsEverythingOfAShortRun) {
  RouteHistory history(3, 8);
  add_steps(history, 0, RouteHistory::kSteps);
  EXPECT_EQ(history.log().size(), 3 * RouteHistory::kSteps);
  EXPECT_EQ(history.first_counted(), 0u);
}

TEST(RouteHistoryTest, KeepsTheLastStepsOfALongRunAndWarmsUp) {
  for (const std::uint64_t steps :
       {RouteHistory::kSteps + 1, 2 * RouteHistory::kSteps, 3 * RouteHistory::kSteps + 17}) {
    RouteHistory history(3, 8);
    add_steps(history, 0, steps);
    const RouteLog& log = history.log();
    ASSERT_EQ(log.size(), 3 * RouteHistory::kSteps);
    EXPECT_EQ(log[0].step, steps - RouteHistory::kSteps);
    EXPECT_EQ(log[0].layer, 0);
    EXPECT_EQ(log[log.size() - 1].step, steps - 1);
    EXPECT_EQ(log[log.size() - 1].ids.front(), (steps - 1) % 8);
    EXPECT_EQ(history.first_counted(), 3u * kWarmUpSteps);
  }
}

TEST(RouteHistoryTest, KeepsFewerStepsOfAModelThatLooksUpMore) {
  constexpr int kExperts = 1000;
  std::vector<std::uint16_t> ids(kExperts);
  std::iota(ids.begin(), ids.end(), std::uint16_t{0});
  RouteHistory history(1, kExperts);
  for (std::uint64_t step = 0; step < 4000; ++step) history.add(0, Phase::decode, step, ids);
  EXPECT_EQ(history.log().size(), RouteHistory::kLookups / kExperts);
  EXPECT_EQ(history.log()[0].step, 4000 - RouteHistory::kLookups / kExperts);
}

}  // namespace
}  // namespace sluice::cache
