// Speeds by hand over routes that are written out, then of real checkpoints.
#include "model/prediction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <variant>

#include "base/error.h"

namespace sluice::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::filesystem::path kEmbedded = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";
const std::filesystem::path kModels = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models";

const cache::PolicyEntry& lru() { return cache::eviction_policy("lru"); }

Rates rates(double disk, double memory, double multiply = 0) {
  Rates result;
  result.multiply = multiply;
  result.disk = disk;
  result.memory = memory;
  return result;
}

/// One layer of 4 experts, one per token, asked for in turn 0 1 2 0 1 2 ...; the first 3 steps fill the slots.
PlanRoutes in_turn(int steps) {
  PlanRoutes routes{.origin = "test", .log = cache::RouteLog(1, 4), .first_counted = 3};
  for (std::uint16_t step = 0; step < steps; ++step) {
    const std::uint16_t id = step % 3;
    routes.log.add(0, cache::Phase::decode, step, {&id, 1});
  }
  return routes;
}

const TokenSizes kSizes{.dense_bytes = 1000,
                        .head_bytes = 400,
                        .token_expert_bytes = 200,
                        .expert_bytes = 200,
                        .read_bytes = 300,
                        .expert_weights = 60,
                        .shared_weights = 0,
                        .schedule = cache::even_schedule(1, 1000, 400, 200, 300)};

TEST(PredictDecode, WithoutHitsEveryTokenWaitsForTheDisk) {
  const DecodePrediction p = predict_decode(kSizes, rates(100, 1000), in_turn(30), 2, lru(), 0);
  EXPECT_EQ(p.slots_per_layer, 2);
  EXPECT_EQ(p.hit_rate, 0);
  EXPECT_DOUBLE_EQ(p.bytes_read, 300);
  EXPECT_DOUBLE_EQ(p.disk_seconds, 3);
  EXPECT_DOUBLE_EQ(p.memory_seconds, 1.2);
  EXPECT_EQ(p.binding(), "disk");
  // Dense weights before the router, the read, the expert, the head: nothing overlaps.
  EXPECT_DOUBLE_EQ(p.tok_per_s, 1 / (0.6 + 3 + 0.2 + 0.4));
}

TEST(PredictDecode, WithEnoughSlotsTheMemoryDecides) {
  for (const int slots : {3, 4, 9}) {
    const DecodePrediction p = predict_decode(kSizes, rates(100, 1000), in_turn(30), slots, lru(), 0);
    EXPECT_EQ(p.hit_rate, 1);
    EXPECT_EQ(p.bytes_read, 0);
    EXPECT_EQ(p.binding(), "memory");
    EXPECT_DOUBLE_EQ(p.tok_per_s, 1 / 1.2);
  }
}

/// Two layers of 4 experts, in turn as in_turn(), so that all miss with 2 slots.
TEST(PredictDecode, GuessesStartReadsBeforeTheRouter) {
  PlanRoutes routes{.origin = "test", .log = cache::RouteLog(2, 4), .first_counted = 6};
  for (std::uint16_t step = 0; step < 30; ++step) {
    const std::uint16_t id = step % 3;
    for (int layer = 0; layer < 2; ++layer) routes.log.add(layer, cache::Phase::decode, step, {&id, 1});
  }
  // The second layer has 500 dense bytes before its router, half a second in which a guess may be read.
  const TokenSizes sizes{.dense_bytes = 1000,
                         .head_bytes = 400,
                         .token_expert_bytes = 400,
                         .expert_bytes = 200,
                         .read_bytes = 300,
                         .expert_weights = 0,
                         .shared_weights = 0,
                         .schedule = {.layers = {{.before_router_bytes = 100, .expert_bytes = 200, .read_bytes = 300},
                                                 {.before_router_bytes = 500, .expert_bytes = 200, .read_bytes = 300}},
                                      .after_bytes = 400}};
  const double without = 0.1 + 3 + 0.2 + 0.5 + 3 + 0.2 + 0.4;
  EXPECT_DOUBLE_EQ(predict_decode(sizes, rates(100, 1000), routes, 2, lru(), 0).tok_per_s, 1 / without);
  // With the guess, the second read begins when the first has ended.
  EXPECT_DOUBLE_EQ(predict_decode(sizes, rates(100, 1000), routes, 2, lru(), 1).tok_per_s,
                   1 / (0.1 + 3 + 3 + 0.2 + 0.4));
}

TEST(PlannedRecall, NeedsStagingSlots) {
  RuntimeSettings settings;
  settings.cache_slots = 8;
  EXPECT_EQ(planned_recall(ModelPlan(kEmbedded, settings)), 0.8);
  settings.prefetch = cache::LookaheadMode::off;
  EXPECT_EQ(planned_recall(ModelPlan(kEmbedded, settings)), 0);
  settings.prefetch = cache::LookaheadMode::on;
  settings.cache_slots = 32;
  EXPECT_EQ(planned_recall(ModelPlan(kEmbedded, settings)), 0) << "nothing is missed";
}

TEST(PredictDecode, AllExpertsInSlotsReadNothingWhateverTheRoutesStillMeet) {
  PlanRoutes routes = in_turn(30);
  const std::uint16_t unseen = 3;
  routes.log.add(0, cache::Phase::decode, 30, {&unseen, 1});
  EXPECT_LT(predict_decode(kSizes, rates(100, 1000), routes, 3, lru(), 0).hit_rate, 1);
  EXPECT_EQ(predict_decode(kSizes, rates(100, 1000), routes, 4, lru(), 0).hit_rate, 1);
  EXPECT_DOUBLE_EQ(predict_decode(kSizes, rates(100, 1000), routes, 4, lru(), 0).tok_per_s, 1 / 1.2);
}

TEST(PredictDecode, ADenseModelTouchesAllItsWeights) {
  TokenSizes dense;
  dense.dense_bytes = 1000;
  dense.head_bytes = 400;
  const PlanRoutes none{.origin = "", .log = cache::RouteLog(0, 0)};
  const DecodePrediction p = predict_decode(dense, rates(0, 500), none, 0, lru(), 0);
  EXPECT_FALSE(p.hit_rate);
  EXPECT_DOUBLE_EQ(p.tok_per_s, 0.5);
  EXPECT_EQ(p.binding(), "memory");
}

TEST(PredictDecode, UnknownRatesGiveNoSpeed) {
  EXPECT_EQ(predict_decode(kSizes, rates(100, 0), in_turn(30), 2, lru(), 0).tok_per_s, 0);
  EXPECT_EQ(predict_decode(kSizes, rates(0, 100), in_turn(30), 2, lru(), 0).tok_per_s, 0);
}

/// Blocks take 0.01 s per token; experts are multiplied at `multiply` while others are read at `disk`.
PromptRates prompt_rates(double disk, double multiply) {
  return {.block_seconds = 0.01, .multiply = multiply, .disk = disk};
}

PrefillPrediction prefill(double disk, double multiply, int steps, int tokens, PrefillSlots slots) {
  return predict_prefill(kSizes, rates(disk, 0, 2 * multiply), prompt_rates(disk, multiply),
                         chunk_rows(in_turn(steps).log, tokens), tokens, slots);
}

TEST(ChunkRows, CountTheTokensOfEachExpert) {
  EXPECT_EQ(chunk_rows(in_turn(30).log, 10), (ChunkRows{{4, 3, 3, 0}}));
  EXPECT_EQ(chunk_rows(in_turn(30).log, 2), (ChunkRows{{1, 1, 0, 0}}));
  EXPECT_EQ(distinct_experts({{4, 0, 1}, {0, 0, 2}}), 1.5);
  EXPECT_EQ(distinct_experts({}), 0);
}

TEST(ChunkRows, AChunkThatIsLongerThanTheRoutesUsesMoreExperts) {
  EXPECT_EQ(chunk_rows(in_turn(2).log, 4), (ChunkRows{{2, 2, 1, 0}}))
      << "2 (1 - (3/4)^4) / (1 - (3/4)^2) = 3.1 experts";
  EXPECT_EQ(chunk_rows(in_turn(3).log, 300), (ChunkRows{{100, 100, 100, 1}})) << "all there are";
}

TEST(PrefillLayer, IsProductsWhenNothingIsRead) {
  const PrefillLayerSeconds seconds = prefill_layer_seconds({3, 0, 2}, {2, 2}, 10, 1000, 1, 7);
  EXPECT_DOUBLE_EQ(seconds.compute, 7 + 50);
  EXPECT_EQ(seconds.wait, 0);
}

TEST(PrefillLayer, WaitsForTheFirstReadAndOverlapsTheOthers) {
  // Reads end at 0.5 + 4, 8.5, 12.5; each is computed in 10.
  EXPECT_DOUBLE_EQ(prefill_layer_seconds({1, 1, 1}, {3, 0}, 10, 4, 0.5, 0).wait, 4.5);
  EXPECT_DOUBLE_EQ(prefill_layer_seconds({1, 1, 1}, {3, 0}, 10, 4, 0.5, 3).wait, 1.5) << "a shared expert comes first";
  // A slow disk: at 0.5 + 20, 40.5, 60.5, and the last is computed by 70.5.
  const PrefillLayerSeconds slow = prefill_layer_seconds({1, 1, 1}, {3, 0}, 10, 20, 0.5, 0);
  EXPECT_DOUBLE_EQ(slow.compute + slow.wait, 70.5);
  EXPECT_DOUBLE_EQ(slow.compute, 30);
}

TEST(PrefillLayer, ReadsIntoSlotsThatAreFree) {
  // One slot: read and computed by turns, and the disk is idle before each.
  EXPECT_DOUBLE_EQ(prefill_layer_seconds({1, 1, 1}, {1, 0}, 10, 4, 0.5, 0).wait, 3 * 4.5);
  // Both slots are filled with the two of most tokens; the first of them is done at 30, when the read begins.
  EXPECT_DOUBLE_EQ(prefill_layer_seconds({2, 1, 3}, {2, 2}, 10, 40, 0.5, 0).wait, 30 + 40.5 - 50);
  // A third slot is empty: the read ends before they are computed.
  EXPECT_DOUBLE_EQ(prefill_layer_seconds({2, 1, 3}, {3, 2}, 10, 40, 0.5, 0).wait, 0);
}

TEST(PrefillLayer, IsNeverFasterThanDiskOrProductsAndMoreSlotsNeverHurt) {
  const std::vector<double> rows{5, 1, 0, 9, 2, 2, 0, 1, 4, 7};
  for (const double read : {0.1, 2.0, 5.0, 50.0}) {
    double before = 1e9;
    for (int slots = 1; slots <= 10; ++slots) {
      const PrefillLayerSeconds cold = prefill_layer_seconds(rows, {slots, 0}, 1, read, 0.25, 0);
      EXPECT_DOUBLE_EQ(cold.compute, 31);
      EXPECT_GE(cold.compute + cold.wait, 8 * read);
      EXPECT_LE(cold.wait, before) << slots;
      before = cold.wait;
      const PrefillLayerSeconds warm = prefill_layer_seconds(rows, {slots, slots}, 1, read, 0.25, 0);
      EXPECT_GE(warm.compute + warm.wait, (8 - slots) * read);
    }
  }
}

// A disk that is faster than the products has rested when the next slot comes free, and is asked anew each time.
TEST(PrefillLayer, IsNeverSlowerWithAFasterDisk) {
  const std::vector<double> rows{5, 1, 0, 9, 2, 2, 0, 1, 4, 7};
  for (const double latency : {0.0, 0.25, 4.0}) {
    for (int slots = 1; slots <= 10; ++slots) {
      double before = 0;
      for (double read = 0.05; read < 12; read += 0.05) {
        const PrefillLayerSeconds layer = prefill_layer_seconds(rows, {slots, 0}, 1, read, latency, 0);
        EXPECT_GE(layer.wait, before - 1e-9) << slots << " slots, " << read;
        before = layer.wait;
      }
    }
  }
}

TEST(PredictPrefill, AddsUpBlocksExpertsAndWaits) {
  const PrefillPrediction p = prefill(100, 1000, 30, 10, {4, 0});
  EXPECT_EQ(p.tokens, 10);
  EXPECT_DOUBLE_EQ(p.distinct_experts, 3);
  EXPECT_DOUBLE_EQ(p.bytes_read, 900);
  EXPECT_DOUBLE_EQ(p.disk_seconds, 9);
  EXPECT_DOUBLE_EQ(p.expert_seconds, 10 * 60 / 1000.0);
  EXPECT_DOUBLE_EQ(p.multiply_seconds, 0.1 + 0.6);
  // Reads end at 3, 6 and 9; three tokens of the last expert are computed behind that.
  EXPECT_DOUBLE_EQ(p.wait_seconds, 9 + 0.18 - 0.6);
  EXPECT_EQ(p.binding(), "disk");
  EXPECT_DOUBLE_EQ(p.tok_per_s, 10 / (0.1 + 9 + 0.18)) << "nothing is read while blocks are computed";
  EXPECT_DOUBLE_EQ(prefill(100, 1000, 30, 10, {4, 1}).bytes_read, 600);
  const PrefillPrediction fast = prefill(1e9, 1000, 30, 10, {4, 0});
  EXPECT_EQ(fast.binding(), "multiplication");
  EXPECT_NEAR(fast.tok_per_s, 10 / 0.7, 1e-3);
}

TEST(PredictPrefill, IsNeverSlowerOnABetterMachine) {
  for (const int slots : {1, 2, 3}) {
    double before = 0;
    for (double disk = 10; disk < 1e6; disk *= 2) {
      const PrefillPrediction p = prefill(disk, 1000, 30, 16, {slots, slots});
      EXPECT_LE(p.tok_per_s, 16 / p.disk_seconds);
      EXPECT_LE(p.tok_per_s, 16 / p.multiply_seconds);
      EXPECT_GE(p.tok_per_s, before) << disk;
      EXPECT_GE(prefill(disk, 1000, 30, 16, {slots + 1, slots + 1}).tok_per_s, p.tok_per_s);
      EXPECT_GE(prefill(disk, 2000, 30, 16, {slots, slots}).tok_per_s, p.tok_per_s);
      before = p.tok_per_s;
    }
  }
}

TEST(PredictPrefill, WithASlotForEveryExpertNothingIsReadAndTheRateIsThatOfResidentOnes) {
  for (const double disk : {0.0, 1.0, 1e9}) {
    const PrefillPrediction p = prefill(disk, 1000, 30, 16, {4, 4});
    EXPECT_EQ(p.bytes_read, 0);
    EXPECT_EQ(p.disk_seconds, 0);
    EXPECT_EQ(p.binding(), "multiplication");
    EXPECT_DOUBLE_EQ(p.tok_per_s, 1 / (0.01 + 60 / 2000.0));
  }
}

TEST(PredictPrefill, ADenseModelIsItsBlocks) {
  const ChunkRows none = chunk_rows(cache::RouteLog(0, 0), 64);
  EXPECT_DOUBLE_EQ(predict_prefill({}, {}, {.block_seconds = 0.01}, none, 64, {}).tok_per_s, 100);
}

TEST(PredictPrefill, UnknownRatesGiveNoSpeed) {
  EXPECT_EQ(prefill(100, 0, 30, 16, {2, 2}).tok_per_s, 0);
  EXPECT_EQ(prefill(0, 1000, 30, 16, {2, 2}).tok_per_s, 0);
  EXPECT_EQ(predict_prefill(kSizes, rates(100, 0, 100), {}, chunk_rows(in_turn(30).log, 16), 16, {2, 2}).tok_per_s, 0);
}

TEST(TokenSizes, CountTheWeightsOfExperts) {
  for (const char* name : {"deepseek_v3-affine4-gs64", "qwen3_moe-affine4-gs64"}) {
    const ModelPlan plan(kModels / name, {});
    const TokenSizes sizes = token_sizes(plan);
    std::uint64_t expert = 0;
    std::uint64_t shared = 0;
    for (const BlockSpec& block : plan.spec.blocks) {
      const auto* moe = std::get_if<MoeSpec>(&block.operation);
      if (moe == nullptr) continue;
      const auto hidden = static_cast<std::uint64_t>(plan.spec.hidden);
      expert = 3 * hidden * static_cast<std::uint64_t>(moe->width);
      if (moe->shared) shared += 3 * hidden * static_cast<std::uint64_t>(moe->shared->width);
    }
    EXPECT_EQ(sizes.expert_weights, expert) << name;
    EXPECT_EQ(sizes.shared_weights, shared) << name;
  }
}

TEST(TokenSizes, CountWindowsOfReads) {
  const ModelPlan plan(kEmbedded, {});
  const TokenSizes sizes = token_sizes(plan);
  EXPECT_EQ(sizes.dense_bytes, plan.token_dense_bytes());
  EXPECT_EQ(sizes.token_expert_bytes, sizes.expert_bytes * 8 * 4);  // layers, experts per token
  EXPECT_GT(sizes.head_bytes, 0U);
  EXPECT_LT(sizes.head_bytes, sizes.dense_bytes);
  EXPECT_EQ(sizes.schedule.layers.size(), 8U);
  EXPECT_GE(sizes.schedule.after_bytes, sizes.head_bytes);
  EXPECT_GT(sizes.read_bytes, sizes.expert_bytes);
  EXPECT_LT(sizes.read_bytes, sizes.expert_bytes + 9 * 8 * kKiB);
}

TEST(GeneratedRoutes, HaveTheShapeOfTheModel) {
  const ModelPlan plan(kEmbedded, {});
  const PlanRoutes routes = generated_routes(plan);
  EXPECT_THAT(routes.origin, AllOf(HasSubstr("512 tokens"), HasSubstr("inkwell-44m")));
  EXPECT_EQ(routes.log.layers(), 8);
  EXPECT_EQ(routes.log.experts(), 32);
  EXPECT_EQ(routes.log.size(), 512U * 8);
  EXPECT_EQ(routes.log[0].ids.size(), 4U);
  EXPECT_EQ(routes.first_counted, 64U * 8);
  RuntimeSettings settings;
  settings.prefill_chunk = 1;
  EXPECT_EQ(generated_routes(ModelPlan(kEmbedded, settings)).log.size(), 320U * 8);
}

TEST(GeneratedRoutes, ADenseModelHasNone) {
  const ModelPlan plan(kModels / "qwen3-affine4-gs64", {});
  EXPECT_EQ(generated_routes(plan).log.layers(), 0);
  EXPECT_EQ(token_sizes(plan).read_bytes, 0U);
}

class RecordedRoutesTest : public ::testing::Test {
 protected:
  ~RecordedRoutesTest() override { std::filesystem::remove(file_); }

  /// `steps` steps of `layers` layers with experts 0, 1, ... in each.
  const std::filesystem::path& write(int steps, int layers, int phase, int top_k = 4) {
    std::ofstream out(file_);
    out << "phase,step,layer,expert\n";
    for (int step = 0; step < steps; ++step) {
      for (int layer = 0; layer < layers; ++layer) {
        for (int k = 0; k < top_k; ++k) out << phase << ',' << step << ',' << layer << ',' << (step + k) % 32 << '\n';
      }
    }
    return file_;
  }
  std::string refusal(const std::filesystem::path& file) const {
    try {
      recorded_routes(plan_, file);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const ModelPlan plan_{kEmbedded, {}};
  const std::filesystem::path file_ = ::testing::TempDir() + "sluice_prediction_routes.csv";
};

TEST_F(RecordedRoutesTest, AreThoseOfTheFile) {
  const PlanRoutes routes = recorded_routes(plan_, write(70, 8, 1));
  EXPECT_THAT(routes.origin, HasSubstr(file_.string()));
  EXPECT_EQ(routes.log.size(), 70U * 8);
  EXPECT_EQ(routes.first_counted, 32U * 8);
  EXPECT_EQ(recorded_routes(plan_, write(50, 8, 1)).first_counted, 0U) << "too short to leave any out";
}

TEST_F(RecordedRoutesTest, OfAnotherModelAreRefused) {
  EXPECT_THAT(refusal(write(4, 7, 1)),
              AllOf(HasSubstr(file_.string()), HasSubstr("7 layers"), HasSubstr("expected 8")));
  EXPECT_THAT(refusal(write(4, 8, 1, 3)), HasSubstr("3 per token"));
  EXPECT_THAT(refusal(write(4, 8, 0)), HasSubstr("prompts only"));
  EXPECT_THAT(refusal("/nowhere.csv"), HasSubstr("/nowhere.csv"));
}

}  // namespace
}  // namespace sluice::model
