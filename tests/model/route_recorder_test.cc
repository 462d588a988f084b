// A real run's trace: written, read back and replayed, it gives the counts that the cache had.
#include "model/routes/route_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "cache/simulate.h"
#include "model/generate.h"
#include "model/routes/parse_trace.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using cache::Phase;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const std::filesystem::path kModels = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models";

struct Placement {
  int slots;
  std::string policy;
  int chunk;
};

class RecordedRun : public ::testing::TestWithParam<Placement> {
 protected:
  static std::unique_ptr<Model> load(const char* name = "qwen3_moe-many-affine4-gs32") {
    RuntimeSettings settings;
    settings.threads = 2;
    settings.cache_slots = GetParam().slots;
    settings.policy = GetParam().policy;
    settings.prefill_chunk = GetParam().chunk;
    return Model::load(kModels / name, settings);
  }

  static void run(Model& model) {
    std::vector<int> prompt(40);
    std::iota(prompt.begin(), prompt.end(), 3);
    Session session = model.new_session();
    generate(
        model, session, {.prompt = prompt, .max_tokens = 24, .sampling = {}, .stop_tokens = {}}, [](int) {},
        [](int) {});
  }

  stream::ScratchDirectory scratch_;
};

void expect_counts(const cache::RouteLog& log, const cache::ExpertCache& cache, const Placement& placement) {
  const cache::Simulation simulated = simulate(log, placement.slots, cache::eviction_policy(placement.policy));
  for (int layer = 0; layer < cache.layers(); ++layer) {
    for (const Phase phase : {Phase::prefill, Phase::decode}) {
      const cache::LookupCounts& real = cache.counts(layer, phase);
      const cache::LookupCounts& counts =
          simulated.layers[static_cast<std::size_t>(layer)][static_cast<std::size_t>(phase)];
      if (phase == Phase::decode) {
        EXPECT_GT(real.lookups, 0u);
      }
      EXPECT_EQ(counts.lookups, real.lookups) << layer;
      EXPECT_EQ(counts.hits, real.hits) << layer;
      EXPECT_EQ(counts.misses_cold, real.misses_cold) << layer;
      EXPECT_EQ(counts.misses_capacity, real.misses_capacity) << layer;
    }
  }
}

TEST_P(RecordedRun, ReplaysToTheCountsOfTheCache) {
  const auto model = load();
  const std::filesystem::path path = scratch_.path() / "run.trace";
  {
    RouteRecorder recorder(*model, path);
    run(*model);
    expect_counts(recorder.history().log(), *model->experts(), GetParam());
  }
  const RouteTrace trace = read_trace(path);
  EXPECT_EQ(trace.header.model, "qwen3_moe-many-affine4-gs32");
  EXPECT_EQ(trace.header.layers, model->info().moe_layers);
  EXPECT_EQ(trace.header.experts, model->info().experts);
  EXPECT_EQ(trace.header.top_k, model->info().top_k);
  EXPECT_EQ(trace.header.dense_bytes, model->info().token_dense_bytes);
  const auto experts = static_cast<std::uint64_t>(trace.header.layers * trace.header.top_k);
  EXPECT_EQ(trace.header.expert_bytes * experts, model->info().token_expert_bytes);
  expect_counts(trace.log(), *model->experts(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Placements, RecordedRun,
                         ::testing::Values(Placement{4, "decay", 512}, Placement{4, "lru", 16},
                                           Placement{7, "decay", 8}, Placement{12, "lru", 512},
                                           Placement{12, "decay", 39}, Placement{32, "decay", 1}),
                         [](const auto& test) {
                           return fmt::format("{}_slots_{}_chunk_{}", test.param.slots, test.param.policy,
                                              test.param.chunk);
                         });

std::unique_ptr<Model> load(const char* name) {
  RuntimeSettings settings;
  settings.threads = 1;
  return Model::load(kModels / name, settings);
}

void decode_some(Model& model, int tokens) {
  Session session = model.new_session();
  for (int token = 0; token < tokens; ++token) {
    const SequenceStep step{&session, std::span(&token, 1), LogitsWanted::none};
    model.forward(std::span(&step, 1), [](int, int, std::span<float>) {});
  }
}

TEST(RouteRecorderTest, HoldsTheDecisionsThatTheModelMade) {
  const auto model = load("qwen3_moe-affine4-gs64");
  const stream::ScratchDirectory scratch;
  {
    RouteRecorder recorder(*model, scratch.path() / "run.trace");
    decode_some(*model, 3);
  }
  std::vector<std::vector<int>> ids;
  std::vector<std::vector<float>> weights;
  model->observe_routes([&](cache::Phase, int, int, std::span<const int> row_ids, std::span<const float> row_weights) {
    ids.emplace_back(row_ids.begin(), row_ids.end());
    weights.emplace_back(row_weights.begin(), row_weights.end());
  });
  decode_some(*model, 3);
  const RouteTrace trace = read_trace(scratch.path() / "run.trace");
  ASSERT_EQ(trace.requests().size(), ids.size());
  for (std::size_t row = 0; row < ids.size(); ++row) {
    ASSERT_TRUE(std::equal(ids[row].begin(), ids[row].end(), trace.ids(row).begin(), trace.ids(row).end()));
    for (std::size_t i = 0; i < ids[row].size(); ++i) {
      EXPECT_NEAR(trace.weights(row)[i], weights[row][i], 0.0005F * weights[row][i]) << "f16";
    }
  }
}

std::vector<Phase> recorded_phases(RouteRecorder& recorder) {
  const cache::RouteLog& log = recorder.history().log();
  std::vector<Phase> phases;
  for (std::size_t i = 0; i < log.size(); ++i) phases.push_back(log[i].phase);
  return phases;
}

TEST(RouteRecorderTest, SequencesThatDecodeTogetherAreDecoding) {
  const auto model = load("qwen3_moe-affine4-gs64");
  RouteRecorder recorder(*model, {});
  Session first = model->new_session();
  Session second = model->new_session();
  const std::vector<int> tokens{5, 9};
  const std::vector<SequenceStep> steps{{&first, std::span(tokens).first(1), LogitsWanted::none},
                                        {&second, std::span(tokens).last(1), LogitsWanted::none}};
  model->forward(steps, [](int, int, std::span<float>) {});
  EXPECT_THAT(recorded_phases(recorder), AllOf(Not(IsEmpty()), Each(Phase::decode)));
  EXPECT_EQ(model->experts()->counts(Phase::prefill).lookups, 0u);
}

TEST(RouteRecorderTest, APromptIsPrefillToItsLastChunkOfOneToken) {
  RuntimeSettings settings;
  settings.threads = 1;
  settings.prefill_chunk = 4;
  const auto model = Model::load(kModels / "qwen3_moe-affine4-gs64", settings);
  RouteRecorder recorder(*model, {});
  const std::vector<int> prompt{5, 9, 100, 42, 7};
  Session session = model->new_session();
  generate(
      *model, session, {.prompt = prompt, .max_tokens = 0, .sampling = {}, .stop_tokens = {}}, [](int) {}, [](int) {});
  Session again = model->new_session();
  model->prefill(again, prompt, LogitsWanted::none, [](int, int, std::span<float>) {});
  const std::vector<Phase> phases = recorded_phases(recorder);
  EXPECT_EQ(phases.size(), static_cast<std::size_t>(2 * 2 * model->info().moe_layers));
  EXPECT_THAT(phases, Each(Phase::prefill));
  EXPECT_EQ(model->experts()->counts(Phase::decode).lookups, 0u);
}

TEST(RouteRecorderTest, ADenseModelHasNoRoutes) {
  const auto model = load("qwen3-affine4-gs64");
  const stream::ScratchDirectory scratch;
  RouteRecorder recorder(*model, scratch.path() / "run.trace");
  decode_some(*model, 2);
  EXPECT_EQ(recorder.history().log().size(), 0u);
  EXPECT_FALSE(std::filesystem::exists(scratch.path() / "run.trace"));
}

TEST(RouteRecorderTest, AFileThatCannotBeMadeIsNamed) {
  const auto model = load("qwen3_moe-affine4-gs64");
  EXPECT_THAT(stream::message_of<Error>([&] { RouteRecorder(*model, "/nowhere/run.trace"); }),
              HasSubstr("/nowhere/run.trace: the routing trace cannot be written"));
}

TEST(TraceWriterTest, AFullDiskIsReportedOnceAndTheRunGoesOn) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const TraceHeader header{.model = "tiny", .layers = 1, .experts = 8, .top_k = 2};
  ::testing::internal::CaptureStderr();
  {
    TraceWriter writer("/dev/full", header);
    const std::vector<std::uint16_t> ids{1, 2};
    const std::vector<float> weights{.5F, .5F};
    for (std::uint32_t step = 0; step < 100'000; ++step) writer.add({.step = step, .layer = 0}, ids, weights);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("/dev/full: writing the routing trace failed"));
  EXPECT_EQ(log.find("/dev/full"), log.rfind("/dev/full")) << "once";
}

TEST(TraceWriterTest, TooManyExpertsForARecordAreRefused) {
  const stream::ScratchDirectory scratch;
  const TraceHeader header{.model = "wide", .layers = 1, .experts = 512, .top_k = 256};
  EXPECT_THAT(stream::message_of<Error>([&] { TraceWriter(scratch.path() / "t", header); }),
              HasSubstr("at most 255 experts per token"));
}

}  // namespace
}  // namespace sluice::model
