// The choice of a prompt chunk: rates in, tokens out.
#include "model/prefill_chunk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <vector>

#include "model/checkpoint_files.h"
#include "model/model.h"
#include "model/plan.h"
#include "model/rates_cache.h"
#include "model/synth/checkpoint_plan.h"
#include "stream/safetensors_writer.h"

namespace sluice::model {
namespace {

using ::testing::HasSubstr;

constexpr int kLongContext = 8192;

const auto anything = [](int) { return true; };

/// 48 layers as those of Qwen3-30B-A3B at 4.5 bits a weight, with 32 slots.
std::vector<PrefillLayer> qwen3(int top_k = 8, double bits = 4.5) {
  constexpr std::uint64_t kWeights = 3 * 768 * 2048;
  const auto bytes = static_cast<std::uint64_t>(static_cast<double>(kWeights) * bits / 8);
  return std::vector<PrefillLayer>(48, {.experts = 128,
                                        .top_k = top_k,
                                        .slots = 32,
                                        .read_bytes = bytes,
                                        .expert_weights = kWeights,
                                        .shared_weights = 0});
}

int tokens(const std::vector<PrefillLayer>& layers, const PrefillRates& rates, int context = kLongContext) {
  return choose_prefill_chunk(layers, rates, context, anything).tokens;
}

TEST(PrefillCost, ByHand) {
  // Two tokens that choose 2 of 4 experts each use 4 (1 - 1/4) = 3 on average; one in four has a slot.
  const std::vector<PrefillLayer> layers(
      2, {.experts = 4, .top_k = 2, .slots = 1, .read_bytes = 100, .expert_weights = 10, .shared_weights = 5});
  const PrefillCost cost = prefill_cost(layers, {.disk = 50, .multiply = 10}, 2);
  EXPECT_DOUBLE_EQ(cost.disk_seconds, 2 * 3 * 0.75 * 100 / 50);
  EXPECT_DOUBLE_EQ(cost.multiply_seconds, 2 * 2 * (2 * 10 + 5) / 10.0);
}

TEST(PrefillChunkChoice, ASlowProcessorNeedsNoMoreThanTheDefault) {
  EXPECT_EQ(tokens(qwen3(), {.disk = 2.7e9, .multiply = 88e9}), 512);
}

TEST(PrefillChunkChoice, MovesWithEveryRate) {
  EXPECT_EQ(tokens(qwen3(), {.disk = 2.7e9, .multiply = 500e9}), 2560) << "sixteen threads";
  EXPECT_EQ(tokens(qwen3(), {.disk = 0.5e9, .multiply = 88e9}), 2560) << "a slow disk";
  EXPECT_EQ(tokens(qwen3(), {.disk = 12e9, .multiply = 500e9}), 1024) << "a fast one";
  EXPECT_EQ(tokens(qwen3(8, 9), {.disk = 2.7e9, .multiply = 88e9}), 1024) << "8 bits";
  EXPECT_EQ(tokens(qwen3(8, 2.5), {.disk = 2.7e9, .multiply = 500e9}), 1536) << "2 bits";
  EXPECT_EQ(tokens(qwen3(2), {.disk = 2.7e9, .multiply = 88e9}), 2048) << "fewer experts per token";
}

TEST(PrefillChunkChoice, IsTheSmallestThatHidesTheDisk) {
  for (const double disk : {0.3e9, 1e9, 3e9, 7e9, 14e9}) {
    for (const double multiply : {20e9, 88e9, 300e9, 1000e9}) {
      const PrefillRates rates{.disk = disk, .multiply = multiply};
      const std::vector<PrefillLayer> layers = qwen3();
      const PrefillChunk chunk = choose_prefill_chunk(layers, rates, kLongContext, anything);
      EXPECT_EQ(chunk.tokens % kDefaultPrefillChunk, 0);
      EXPECT_LE(chunk.tokens, kMostPrefillChunk);
      EXPECT_EQ(chunk.reason == PrefillChunkReason::disk_hidden, chunk.cost.hides_disk());
      EXPECT_EQ(chunk.cost.disk_seconds, prefill_cost(layers, rates, chunk.tokens).disk_seconds);
      if (chunk.reason == PrefillChunkReason::most) {
        EXPECT_EQ(chunk.tokens, kMostPrefillChunk);
      }
      if (chunk.tokens > kDefaultPrefillChunk) {
        EXPECT_FALSE(prefill_cost(layers, rates, chunk.tokens - kDefaultPrefillChunk).hides_disk());
      }
    }
  }
}

TEST(PrefillChunkChoice, AFasterDiskNeverNeedsMore) {
  for (double disk = 0.2e9; disk < 20e9; disk *= 1.3) {
    EXPECT_GE(tokens(qwen3(), {.disk = disk, .multiply = 200e9}),
              tokens(qwen3(), {.disk = 1.3 * disk, .multiply = 200e9}));
  }
}

TEST(PrefillChunkChoice, KeepsToTheContextAndToWhatIsAffordable) {
  const PrefillRates slow{.disk = 1e6, .multiply = 1e12};
  EXPECT_EQ(tokens(qwen3(), slow), kMostPrefillChunk);
  EXPECT_EQ(tokens(qwen3(), slow, 1300), 1300);
  EXPECT_EQ(tokens(qwen3(), slow, 512), 512);
  EXPECT_EQ(tokens(qwen3(), slow, 100), 100);
  std::vector<int> asked;
  const PrefillChunk chunk = choose_prefill_chunk(qwen3(), slow, kLongContext, [&](int tokens) {
    asked.push_back(tokens);
    return tokens <= 1536;
  });
  EXPECT_EQ(chunk.tokens, 1536);
  EXPECT_EQ(chunk.reason, PrefillChunkReason::most);
  EXPECT_THAT(asked, ::testing::ElementsAre(1024, 1536, 2048));
  EXPECT_THAT(to_string(chunk), HasSubstr("no larger chunk fits"));
}

TEST(PrefillChunkChoice, WithoutReadsOrRatesTheDefault) {
  std::vector<PrefillLayer> resident = qwen3();
  for (PrefillLayer& layer : resident) layer.slots = layer.experts;
  const PrefillChunk all = choose_prefill_chunk(resident, {.disk = 1e6, .multiply = 1e12}, kLongContext, anything);
  EXPECT_EQ(all.tokens, kDefaultPrefillChunk);
  EXPECT_EQ(all.reason, PrefillChunkReason::all_resident);
  for (const PrefillRates& rates : {PrefillRates{0, 1e9}, PrefillRates{1e9, 0}}) {
    const PrefillChunk chunk = choose_prefill_chunk(qwen3(), rates, kLongContext, anything);
    EXPECT_EQ(chunk.tokens, kDefaultPrefillChunk);
    EXPECT_EQ(chunk.reason, PrefillChunkReason::unknown);
    EXPECT_EQ(chunk.cost.disk_seconds, 0);
  }
}

/// Rates at which no chunk hides the disk.
constexpr PrefillRates kSlowDisk{.disk = 1, .multiply = 1e15};

class PlannedChunk : public ::testing::Test {
 protected:
  static RuntimeSettings with_slots(int slots) {
    RuntimeSettings settings;
    settings.cache_slots = slots;
    return settings;
  }
  const std::filesystem::path model_ = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";
};

TEST_F(PlannedChunk, IsWhatMemoryIsPlannedFor) {
  ModelPlan plan(model_, with_slots(8));
  ASSERT_TRUE(plan.chunk_is_open());
  const std::uint64_t before = plan.budget.scratch_bytes;
  plan.choose_chunk(kSlowDisk);
  EXPECT_EQ(plan.chunk.tokens, std::min(plan.context, kMostPrefillChunk));
  EXPECT_EQ(plan.budget.chunk_tokens, plan.chunk.tokens);
  EXPECT_EQ(plan.session.chunk, plan.chunk.tokens);
  EXPECT_EQ(plan.budget.scratch_bytes - before, static_cast<std::uint64_t>(plan.chunk.tokens - kDefaultPrefillChunk) *
                                                    plan.budget_request.scratch_bytes_per_token);
  EXPECT_EQ(plan.budget.slots_per_layer, 8);
  EXPECT_EQ(plan.budget.kv_bytes, plan.session.bytes(plan.context));

  ModelPlan fast(model_, with_slots(8));
  fast.choose_chunk({.disk = 1e15, .multiply = 1});
  EXPECT_EQ(fast.budget.chunk_tokens, kDefaultPrefillChunk);
  EXPECT_EQ(fast.chunk.reason, PrefillChunkReason::disk_hidden);
}

TEST_F(PlannedChunk, TakesFewSlots) {
  for (std::uint64_t memory = 112 * kMiB; memory < 160 * kMiB; memory += 4 * kMiB) {
    RuntimeSettings settings;
    settings.memory = memory;
    ModelPlan plan(model_, settings);
    const cache::Budget before = plan.budget;
    plan.choose_chunk(kSlowDisk);
    EXPECT_GE(plan.budget.slots_per_layer, before.slots_per_layer - before.slots_per_layer / 8) << memory;
    EXPECT_LE(plan.budget.total_bytes(), memory);
    EXPECT_GE(plan.budget.chunk_tokens, before.chunk_tokens);
    EXPECT_EQ(plan.budget.notices, before.notices);
  }
}

TEST_F(PlannedChunk, IsNotChosenWhereItWasGivenOrNothingIsRead) {
  RuntimeSettings given = with_slots(8);
  given.prefill_chunk = 64;
  RuntimeSettings mapped;
  mapped.io = "mmap";
  RuntimeSettings short_context = with_slots(8);
  short_context.ctx_size = 512;
  for (const RuntimeSettings& settings : {given, mapped, short_context, with_slots(32)}) {
    ModelPlan plan(model_, settings);
    EXPECT_FALSE(plan.chunk_is_open());
    const int before = plan.budget.chunk_tokens;
    plan.choose_chunk(kSlowDisk);
    EXPECT_EQ(plan.budget.chunk_tokens, before);
    EXPECT_EQ(plan.chunk.reason, PrefillChunkReason::given);
  }
}

TEST_F(PlannedChunk, KnowsTheLayers) {
  const ModelPlan plan(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models/deepseek_v3-affine4-gs64", {});
  const std::vector<PrefillLayer> layers = prefill_layers(plan);
  ASSERT_EQ(layers.size(), plan.experts.size());
  std::size_t moe = 0;
  for (const BlockSpec& block : plan.spec.blocks) {
    const auto* spec = std::get_if<MoeSpec>(&block.operation);
    if (spec == nullptr) continue;
    const auto weights = static_cast<std::uint64_t>(3 * spec->width * plan.spec.hidden);
    EXPECT_EQ(layers[moe].experts, spec->experts);
    EXPECT_EQ(layers[moe].expert_weights, weights);
    EXPECT_EQ(layers[moe].shared_weights, static_cast<std::uint64_t>(3 * spec->shared->width * plan.spec.hidden));
    EXPECT_GE(layers[moe].read_bytes, plan.experts[moe].expert_bytes());
    ++moe;
  }
}

/// A checkpoint with more than a GiB of experts, all of them zeros that take no room on the disk.
class LoadedChunk : public ::testing::Test {
 protected:
  LoadedChunk() {
    synth::SynthOptions options;
    options.like = "olmoe";
    options.layers = 3;
    options.bits = 8;
    const synth::CheckpointPlan plan = synth::plan_checkpoint(options);
    std::ofstream(directory_.path() / "config.json") << plan.config;
    for (const synth::PlannedFile& file : plan.files) {
      std::vector<stream::TensorHeader> tensors;
      for (const synth::PlannedTensor& tensor : file.tensors) tensors.push_back(tensor.header);
      const stream::SafetensorsLayout layout = stream::lay_out(tensors);
      std::ofstream(directory_.path() / file.name, std::ios::binary) << layout.header;
      std::filesystem::resize_file(directory_.path() / file.name, layout.file_bytes);
    }
    settings_.cache_slots = 8;
    settings_.rates_file = directory_.path() / "rates.json";
  }

  /// A model that was loaded when the machine was known to have these rates.
  std::unique_ptr<Model> load_with(double disk, double multiply, const std::string& key) const {
    const RatesCache cache(settings_.rates_file);
    cache.store(key, {.disk = disk, .memory = 1e10, .multiply = multiply, .drive = {}, .age_seconds = {}});
    return Model::load(directory_.path(), settings_);
  }

  TemporaryDirectory directory_;
  RuntimeSettings settings_;
};

TEST_F(LoadedChunk, FollowsFromRatesThatAreMeasuredOnce) {
  const auto first = Model::load(directory_.path(), settings_);
  const std::string key = rates_key(first->plan(), first->reader().choice(), first->context());
  const auto rates = RatesCache(settings_.rates_file).find(key);
  ASSERT_TRUE(rates);
  EXPECT_GT(rates->multiply, 0);
  EXPECT_EQ(first->info().prefill_chunk % kDefaultPrefillChunk, 0);
  EXPECT_THAT(first->info().chunk_origin, ::testing::StartsWith("auto: the disk needs"));

  EXPECT_EQ(load_with(1e12, 1e9, key)->info().prefill_chunk, kDefaultPrefillChunk);
  const auto slow_disk = load_with(1e6, 1e12, key);
  EXPECT_EQ(slow_disk->info().prefill_chunk, std::min(slow_disk->info().context, kMostPrefillChunk));
  EXPECT_GT(slow_disk->info().scratch_bytes, first->info().scratch_bytes);
  EXPECT_EQ(slow_disk->info().slots_per_layer, 8);
}

TEST_F(LoadedChunk, IsTheDefaultWithoutAPlaceForRates) {
  settings_.rates_file.clear();
  const auto model = Model::load(directory_.path(), settings_);
  EXPECT_EQ(model->info().prefill_chunk, kDefaultPrefillChunk);
  EXPECT_EQ(model->info().chunk_origin, "");
}

}  // namespace
}  // namespace sluice::model
