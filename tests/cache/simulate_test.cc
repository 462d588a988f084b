// The simulator beside the cache itself, over a device whose reads land in any order.
#include "cache/simulate.h"

#include <gtest/gtest.h>

#include <ostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cache/expert_file.h"
#include "cache/route_log_support.h"

namespace sluice::cache {
namespace {

struct Setting {
  int slots;
  std::string policy;
  unsigned seed;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) {
  return out << setting.slots << " slots, " << setting.policy << ", seed " << setting.seed;
}

class SimulationBesideCache : public ::testing::TestWithParam<Setting> {
 protected:
  static constexpr int kLayers = 2;
  static constexpr int kExperts = 24;

  // Drives a cache through the log, on a device that ends reads in an order of its own.
  void drive(const RouteLog& log, unsigned landing_seed) {
    stream::Reader reader = file_.reader(landing_seed);
    ExpertCache cache(file_.layers(), {.slots_per_layer = GetParam().slots, .policy = GetParam().policy}, reader);
    std::vector<SimulatedLayer> layers;
    for (int layer = 0; layer < kLayers; ++layer) {
      layers.emplace_back(kExperts, GetParam().slots, eviction_policy(GetParam().policy));
    }
    for (std::size_t i = 0; i < log.size() && !HasFailure(); ++i) {
      const RouteLog::Request request = log[i];
      const std::vector<int> ids(request.ids.begin(), request.ids.end());
      {
        Lease lease = cache.acquire(request.layer, ids, request.phase, request.step, request.uses);
        std::set<int> seen;
        for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
          for (const ReadyExpert& ready : batch) {
            EXPECT_TRUE(seen.insert(ready.id).second);
            EXPECT_TRUE(file_.holds(request.layer, ready));
          }
        }
        EXPECT_EQ(seen.size(), ids.size());
      }
      SimulatedLayer& layer = layers[static_cast<std::size_t>(request.layer)];
      layer.acquire(request.ids, request.step, request.uses);
      for (int expert = 0; expert < kExperts; ++expert) {
        ASSERT_EQ(layer.resident(expert), cache.resident(request.layer, expert)) << "request " << i << ", " << expert;
      }
    }
    const Simulation simulated = simulate(log, GetParam().slots, eviction_policy(GetParam().policy));
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const Phase phase : {Phase::prefill, Phase::decode}) {
        const LookupCounts& real = cache.counts(layer, phase);
        const LookupCounts& counts = simulated.layers[static_cast<std::size_t>(layer)][static_cast<std::size_t>(phase)];
        EXPECT_EQ(counts.lookups, real.lookups);
        EXPECT_EQ(counts.hits, real.hits);
        EXPECT_EQ(counts.misses_cold, real.misses_cold);
        EXPECT_EQ(counts.misses_capacity, real.misses_capacity);
      }
    }
  }

  ExpertFile file_{{{kExperts, {600, 313}}, {kExperts, {600, 313}}}};
};

TEST_P(SimulationBesideCache, CountsTheSameHoweverReadsLand) {
  const RouteLog log = random_log(kLayers, kExperts, 120, GetParam().seed);
  drive(log, GetParam().seed);
  drive(log, GetParam().seed + 1000);
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const PolicyEntry& policy : eviction_policies()) {
    for (const int slots : {1, 2, 3, 5, 8, 13, 23, 24, 40}) {
      for (unsigned seed = 1; seed <= 3; ++seed) all.push_back({slots, std::string(policy.name), seed});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Settings, SimulationBesideCache, ::testing::ValuesIn(settings()));

TEST(Simulate, CountsMissesAsColdOrCapacityPerPhase) {
  RouteLog log(1, 8);
  log.add(0, Phase::prefill, 0, std::vector<std::uint16_t>{2, 0, 1, 2});  // 0 1 2, cold
  log.add(0, Phase::decode, 1, std::vector<std::uint16_t>{0, 3});         // hit, cold; the oldest unpinned, 1, leaves
  log.add(0, Phase::decode, 2, std::vector<std::uint16_t>{1, 3});         // capacity, hit
  const Simulation result = simulate(log, 3, eviction_policy("lru"));
  EXPECT_EQ(result.counts(Phase::prefill).lookups, 3u);
  EXPECT_EQ(result.counts(Phase::prefill).misses_cold, 3u);
  EXPECT_EQ(result.counts(Phase::decode).lookups, 4u);
  EXPECT_EQ(result.counts(Phase::decode).hits, 2u);
  EXPECT_EQ(result.counts(Phase::decode).misses_cold, 1u);
  EXPECT_EQ(result.counts(Phase::decode).misses_capacity, 1u);
  EXPECT_EQ(result.misses, (std::vector<std::uint16_t>{3, 1, 1}));
}

TEST(Simulate, CountsFromWhereItIsTold) {
  const RouteLog log = random_log(2, 12, 60, 5);
  const PolicyEntry& policy = eviction_policy("decay");
  const Simulation all = simulate(log, 4, policy);
  const std::size_t half = log.size() / 2;
  std::uint64_t misses = 0;
  for (std::size_t i = half; i < log.size(); ++i) misses += all.misses[i];
  const Simulation later = simulate(log, 4, policy, half);
  const LookupCounts prefill = later.counts(Phase::prefill);
  const LookupCounts decode = later.counts(Phase::decode);
  EXPECT_EQ(prefill.lookups - prefill.hits + decode.lookups - decode.hits, misses);
  EXPECT_EQ(later.misses, all.misses);
}

TEST(RouteLogTest, ForgetsItsOldestRequests) {
  const RouteLog all = random_log(2, 12, 20, 9);
  RouteLog rest = random_log(2, 12, 20, 9);
  rest.drop_front(7);
  ASSERT_EQ(rest.size(), all.size() - 7);
  for (std::size_t i = 0; i < rest.size(); ++i) {
    EXPECT_EQ(rest[i].layer, all[i + 7].layer);
    EXPECT_EQ(rest[i].step, all[i + 7].step);
    EXPECT_EQ(rest[i].phase, all[i + 7].phase);
    ASSERT_EQ(rest[i].uses.size(), all[i + 7].uses.size());
    for (std::size_t j = 0; j < rest[i].uses.size(); ++j) {
      EXPECT_EQ(rest[i].uses[j].expert, all[i + 7].uses[j].expert);
      EXPECT_EQ(rest[i].uses[j].age, all[i + 7].uses[j].age);
    }
    EXPECT_TRUE(std::equal(rest[i].ids.begin(), rest[i].ids.end(), all[i + 7].ids.begin(), all[i + 7].ids.end()));
  }
  rest.drop_front(rest.size());
  EXPECT_EQ(rest.size(), 0u);
}

}  // namespace
}  // namespace sluice::cache
