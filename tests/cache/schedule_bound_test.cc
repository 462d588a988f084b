// Every term by hand, and what holds for any model and any routes.
#include "cache/schedule_bound.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

#include "cache/route_log_support.h"
#include "cache/simulate.h"

namespace sluice::cache {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Memory 100 bytes/s, disk 10 bytes/s in all hand-computed cases.
double seconds(const std::vector<ScheduleLayer>& layers, const std::vector<LayerDemand>& demands, double recall = 0,
               std::uint64_t after = 0) {
  return schedule_seconds({layers, after}, {.disk = 10, .memory = 100, .lookahead_recall = recall}, demands);
}

TEST(ScheduleBound, DenseWeightsGoThroughMemoryOnce) {
  EXPECT_DOUBLE_EQ(seconds({}, {}, 0, 300), 3.0);
  EXPECT_DOUBLE_EQ(seconds({{.before_router_bytes = 200}, {.before_router_bytes = 50}}, {{}, {}}, 0, 100), 3.5);
}

TEST(ScheduleBound, HitsAndTheSharedExpertAreComputed) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 30, .expert_bytes = 20, .read_bytes = 20};
  EXPECT_DOUBLE_EQ(seconds({layer}, {{.lookups = 4, .misses = 0}}), 1.0 + 0.3 + 4 * 0.2);
}

TEST(ScheduleBound, ReadsBeginWhenTheRouterIsKnownAndTheLastExpertIsComputedAfterItLands) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 25};
  EXPECT_DOUBLE_EQ(seconds({layer}, {{.lookups = 2, .misses = 2}}), 1.0 + 2 * 2.5 + 0.2);
}

TEST(ScheduleBound, HitsAndTheSharedExpertHideBehindReads) {
  const ScheduleLayer layer{.before_router_bytes = 0, .shared_bytes = 100, .expert_bytes = 20, .read_bytes = 20};
  // Shared and hit until 1.2; the miss lands at 2.0.
  EXPECT_DOUBLE_EQ(seconds({layer}, {{.lookups = 2, .misses = 1}}), 2.0 + 0.2);
}

TEST(ScheduleBound, ReadsHideBehindHitsAndTheSharedExpert) {
  const ScheduleLayer layer{.before_router_bytes = 0, .shared_bytes = 700, .expert_bytes = 20, .read_bytes = 20};
  // Shared and hit until 7.2; both misses have landed by 4.0.
  EXPECT_DOUBLE_EQ(seconds({layer}, {{.lookups = 3, .misses = 2}}), 7.2 + 2 * 0.2);
}

TEST(ScheduleBound, WithoutLookaheadTheDiskRestsUntilTheNextRouter) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 20};
  const LayerDemand one{.lookups = 1, .misses = 1};
  EXPECT_DOUBLE_EQ(seconds({layer, layer}, {one, one}), 2 * (1.0 + 2.0 + 0.2));
}

TEST(ScheduleBound, AnIdleDiskTakesItsLatencyAndABusyOneDoesNot) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 20};
  const LayerDemand one{.lookups = 1, .misses = 1};
  const auto with = [&](const std::vector<LayerDemand>& demands, double recall) {
    return schedule_seconds({std::vector<ScheduleLayer>(demands.size(), layer), 0},
                            {.disk = 10, .memory = 100, .disk_latency = 0.3, .lookahead_recall = recall}, demands);
  };
  EXPECT_DOUBLE_EQ(with({one}, 0), 1.0 + 0.3 + 2.0 + 0.2);
  EXPECT_DOUBLE_EQ(with({one, one}, 0), 2 * (1.0 + 0.3 + 2.0 + 0.2));
  EXPECT_DOUBLE_EQ(with({{.lookups = 1, .misses = 0}}, 0), 1.0 + 0.2) << "nothing is asked of it";
  // Layer 0 is read until 3.3, and the guess for layer 1 right behind it until 5.3, which its router would have asked
  // for at 4.5.
  EXPECT_DOUBLE_EQ(with({one, one}, 1), 5.3 + 0.2);
  // Half a guess is read from 3.3 to 4.3; the rest is asked of an idle disk at 4.5.
  EXPECT_DOUBLE_EQ(with({one, one}, 0.5), 4.5 + 0.3 + 1.0 + 0.2);
}

TEST(ScheduleBound, LookaheadReadsWhileTheDiskWouldRest) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 20};
  const LayerDemand one{.lookups = 1, .misses = 1};
  // Layer 0: routed 1.0, landed 3.0, computed 3.2. Layer 1: routed 4.2.
  // All guessed: read from 3.0 to 5.0.
  EXPECT_DOUBLE_EQ(seconds({layer, layer}, {one, one}, 1), 5.2);
  // Half guessed: one second's worth from 3.0 to 4.0; the rest from 4.2 to 5.2.
  EXPECT_DOUBLE_EQ(seconds({layer, layer}, {one, one}, 0.5), 5.4);
}

TEST(ScheduleBound, LookaheadWaitsForTheMissesBefore) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 20};
  // Layer 0: routed 1.0, both landed at 5.0, computed 5.2. Layer 1: guessed read until 7.0, routed 6.2.
  EXPECT_DOUBLE_EQ(seconds({layer, layer}, {{2, 2}, {1, 1}}, 1), 7.2);
}

TEST(ScheduleBound, LookaheadWaitsForTheRouterBefore) {
  const ScheduleLayer slow{.before_router_bytes = 100, .shared_bytes = 300, .expert_bytes = 20, .read_bytes = 20};
  // Layer 0: routed 1.0, no misses, computed 4.0. Layer 1: guessed read from 1.0 to 3.0, routed 5.0, computed 8.2.
  EXPECT_DOUBLE_EQ(seconds({slow, slow}, {{0, 0}, {1, 1}}, 1), 8.2);
}

TEST(ScheduleBound, NobodyGuessesForTheFirstLayer) {
  const ScheduleLayer layer{.before_router_bytes = 100, .shared_bytes = 0, .expert_bytes = 20, .read_bytes = 20};
  EXPECT_DOUBLE_EQ(seconds({layer}, {{1, 1}}, 1), seconds({layer}, {{1, 1}}, 0));
}

TEST(ScheduleBound, EqualLayersShareTheDenseWeights) {
  const ScheduleModel model = even_schedule(3, 1000, 99, 20, 25);
  ASSERT_EQ(model.layers.size(), 3u);
  std::uint64_t dense = model.after_bytes;
  for (const ScheduleLayer& layer : model.layers) {
    EXPECT_EQ(layer.before_router_bytes, 300u);
    EXPECT_EQ(layer.expert_bytes, 20u);
    EXPECT_EQ(layer.read_bytes, 25u);
    dense += layer.before_router_bytes + layer.shared_bytes;
  }
  EXPECT_EQ(dense, 1000u) << "nothing is lost to rounding";
}

class AnySchedule : public ::testing::Test {
 protected:
  std::uint64_t below(std::uint64_t end) { return std::uniform_int_distribution<std::uint64_t>(0, end - 1)(random_); }

  void make() {
    model_ = {};
    demands_.clear();
    for (std::uint64_t layers = 1 + below(6); layers > 0; --layers) {
      const std::uint64_t expert = 1 + below(50);
      model_.layers.push_back({below(100), below(2) * below(60), expert, expert + below(10)});
      const auto lookups = static_cast<std::uint32_t>(below(9));
      demands_.push_back({lookups, static_cast<std::uint32_t>(below(lookups + 1))});
    }
    model_.after_bytes = below(100);
  }

  double read_bytes() const {
    double bytes = 0;
    for (std::size_t l = 0; l < demands_.size(); ++l) {
      bytes += static_cast<double>(demands_[l].misses * model_.layers[l].read_bytes);
    }
    return bytes;
  }

  double touched_bytes() const {
    auto bytes = static_cast<double>(model_.after_bytes);
    for (std::size_t l = 0; l < demands_.size(); ++l) {
      const ScheduleLayer& layer = model_.layers[l];
      bytes += static_cast<double>(layer.before_router_bytes + layer.shared_bytes +
                                   demands_[l].lookups * layer.expert_bytes);
    }
    return bytes;
  }

  double seconds(double disk, double memory, double recall, double latency = 0) const {
    return schedule_seconds(
        model_, {.disk = disk, .memory = memory, .disk_latency = latency, .lookahead_recall = recall}, demands_);
  }

  std::mt19937_64 random_{2};
  ScheduleModel model_;
  std::vector<LayerDemand> demands_;
};

TEST_F(AnySchedule, TakesAtLeastAsLongAsDiskAndMemory) {
  for (int i = 0; i < 2000; ++i) {
    make();
    for (const double recall : {0.0, 0.8, 1.0}) {
      const double disk = 1.0 + static_cast<double>(below(50));
      const double memory = 1.0 + static_cast<double>(below(200));
      const double time = seconds(disk, memory, recall) * (1 + 1e-12);
      EXPECT_GE(time, read_bytes() / disk);
      EXPECT_GE(time, touched_bytes() / memory);
    }
  }
}

TEST_F(AnySchedule, NeverGetsSlowerWithAFasterDiskOrMemoryOrABetterGuess) {
  for (int i = 0; i < 2000; ++i) {
    make();
    for (const double latency : {0.0, 0.3, 3.0}) {
      const double time = seconds(10, 100, 0.5, latency) * (1 + 1e-12);
      EXPECT_LE(seconds(11, 100, 0.5, latency), time);
      EXPECT_LE(seconds(20, 100, 0.5, latency), time);
      EXPECT_LE(seconds(10, 117, 0.5, latency), time);
      EXPECT_LE(seconds(10, 100, 0.6, latency), time);
    }
    EXPECT_LE(seconds(10, 100, 0.5), seconds(10, 100, 0) * (1 + 1e-12));
    EXPECT_GE(seconds(10, 100, 0.5, 0.3) * (1 + 1e-12), seconds(10, 100, 0.5));
  }
}

TEST_F(AnySchedule, IsTheDiskBoundIfComputingIsFreeAndTheMemoryBoundIfReadingIs) {
  for (int i = 0; i < 500; ++i) {
    make();
    for (const double recall : {0.0, 0.7}) {
      EXPECT_NEAR(seconds(10, kInfinite, recall), read_bytes() / 10, 1e-9);
      EXPECT_NEAR(seconds(kInfinite, 100, recall), touched_bytes() / 100, 1e-9);
    }
  }
}

TEST(ScheduleBoundOfALog, IsTheMeanOfItsDecodeSteps) {
  const int experts = 16;
  const RouteLog log = random_log(2, experts, 30, 4);
  const Simulation simulation = simulate(log, 5, eviction_policy("decay"));
  const ScheduleModel model{{{10, 0, 7, 8}, {20, 5, 7, 8}}, 30};
  const ScheduleRates rates{.disk = 10, .memory = 100, .lookahead_recall = 0.8};
  const std::size_t first_counted = 8;  // requests; two a step
  double sum = 0;
  int steps = 0;
  for (std::size_t i = first_counted; i < log.size(); i += 2) {
    if (log[i].phase == Phase::prefill) continue;
    const std::vector<LayerDemand> demands{
        {static_cast<std::uint32_t>(log[i].ids.size()), simulation.misses[i]},
        {static_cast<std::uint32_t>(log[i + 1].ids.size()), simulation.misses[i + 1]}};
    sum += schedule_seconds(model, rates, demands);
    ++steps;
  }
  ASSERT_GT(steps, 0);
  EXPECT_NEAR(schedule_seconds(model, rates, log, simulation.misses, first_counted).value(), sum / steps, 1e-12);
  EXPECT_FALSE(schedule_seconds(model, rates, log, simulation.misses, log.size()));
}

}  // namespace
}  // namespace sluice::cache
