// The forward pass against logits and router decisions of the reference implementation.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "model/golden_file.h"
#include "model/model.h"

namespace sluice::model {
namespace {

const std::filesystem::path kFixtures = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models";

struct Golden : testing::TestWithParam<const char*> {
  std::filesystem::path directory = kFixtures / GetParam();
  GoldenFile expected{directory / "expected.safetensors"};
};

RuntimeSettings exact_settings() {
  RuntimeSettings settings;
  settings.activations = kernels::ActivationKind::f32;
  settings.cache_type = DType::f32;
  settings.threads = 2;
  return settings;
}

double standard_deviation(const std::vector<float>& values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  double sum = 0;
  for (const float value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  return largest;
}

/// Logits of every token of `tokens`: the first `prefill` as one prompt, the rest one by one.
std::vector<float> teacher_forced(Model& model, const std::vector<int>& tokens, std::size_t prefill) {
  std::vector<float> all;
  const auto keep = [&](int, int, std::span<float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  Session session = model.new_session();
  model.prefill(session, std::span(tokens).first(prefill), LogitsWanted::all, keep);
  for (std::size_t i = prefill; i < tokens.size(); ++i) {
    const SequenceStep step{&session, std::span(tokens).subspan(i, 1), LogitsWanted::last};
    model.forward(std::span(&step, 1), keep);
  }
  return all;
}

std::vector<int> prompt_and_greedy(const GoldenFile& expected, const std::string& prefix, std::size_t steps) {
  std::vector<int> tokens = expected.values<int>(prefix + "prompt");
  const std::vector<int> greedy = expected.values<int>(prefix + "greedy");
  tokens.insert(tokens.end(), greedy.begin(), greedy.begin() + static_cast<std::ptrdiff_t>(steps));
  return tokens;
}

void expect_matching_logits(const std::filesystem::path& directory, const GoldenFile& expected,
                            const RuntimeSettings& settings, double tolerance) {
  std::vector<float> reference = expected.values<float>("prefill.logits");
  const std::vector<float> decode = expected.values<float>("decode.logits");
  const double deviation = standard_deviation(reference);
  reference.insert(reference.end(), decode.begin(), decode.end());
  const auto model = Model::load(directory, settings);
  const std::size_t steps = decode.size() / static_cast<std::size_t>(model->info().vocabulary);
  const std::vector<float> logits =
      teacher_forced(*model, prompt_and_greedy(expected, "", steps), expected.values<int>("prompt").size());
  EXPECT_LE(largest_difference(logits, reference), tolerance * deviation);
}

TEST_P(Golden, ExactActivationsMatchTheReference) {
  expect_matching_logits(directory, expected, exact_settings(), 1e-3);
}

TEST_P(Golden, Int16ActivationsMatchTheReference) {
  RuntimeSettings settings = exact_settings();
  settings.activations = kernels::ActivationKind::int16;
  expect_matching_logits(directory, expected, settings, 5e-3);
}

TEST_P(Golden, LongPromptMatchesTheReference) {
  const std::vector<float> tail = expected.values<float>("long.logits_tail");
  std::vector<float> reference = tail;
  const std::vector<float> decode = expected.values<float>("long.decode.logits");
  reference.insert(reference.end(), decode.begin(), decode.end());
  const auto model = Model::load(directory, exact_settings());
  const auto vocabulary = static_cast<std::size_t>(model->info().vocabulary);
  const std::vector<int> tokens = prompt_and_greedy(expected, "long.", decode.size() / vocabulary);
  std::vector<float> logits = teacher_forced(*model, tokens, expected.values<int>("long.prompt").size());
  logits.erase(logits.begin(), logits.end() - static_cast<std::ptrdiff_t>(reference.size()));
  EXPECT_LE(largest_difference(logits, reference), 2e-3);
}

TEST_P(Golden, RouterDecisionsAreTheReferences) {
  const auto model = Model::load(directory, exact_settings());
  if (model->info().moe_layers == 0) {
    EXPECT_FALSE(expected.has("prefill.layer.0.router.indices"));
    return;
  }
  std::map<std::string, std::vector<int>> seen;
  std::string tag = "prefill";
  model->observe_routes([&](int layer, int, std::span<const int> ids, std::span<const float>) {
    auto& list = seen[tag + ".layer." + std::to_string(layer) + ".router.indices"];
    list.insert(list.end(), ids.begin(), ids.end());
  });
  const std::vector<int> prompt = expected.values<int>("prompt");
  const std::vector<int> greedy = expected.values<int>("greedy");
  const auto ignore = [](int, int, std::span<float>) {};
  Session session = model->new_session();
  model->prefill(session, prompt, LogitsWanted::last, ignore);
  for (std::size_t i = 0; i + 1 < greedy.size(); ++i) {
    tag = "decode" + std::to_string(i);
    const SequenceStep step{&session, std::span(greedy).subspan(i, 1), LogitsWanted::last};
    model->forward(std::span(&step, 1), ignore);
  }
  ASSERT_FALSE(seen.empty());
  for (const auto& [name, ids] : seen) EXPECT_EQ(ids, expected.values<int>(name)) << name;
}

/// Everything that decides speed only, against one plain setting: equal logits, bit for bit.
TEST_P(Golden, PlacementNeverChangesALogit) {
  const std::vector<int> tokens = prompt_and_greedy(expected, "", 8);
  RuntimeSettings plain;
  plain.threads = 1;
  const auto resident = Model::load(directory, plain);
  const std::vector<float> reference = teacher_forced(*resident, tokens, tokens.size());
  for (const int slots : {resident->info().top_k, resident->info().top_k + 1, resident->info().experts}) {
    for (const MoePath path :
         {MoePath::automatic, MoePath::fused, MoePath::stacked, MoePath::stacked_split, MoePath::per_expert}) {
      for (const int chunk : {1, 7, 64}) {
        RuntimeSettings settings;
        if (resident->info().experts > 0) settings.cache_slots = slots;
        settings.moe_path = path;
        settings.prefill_chunk = chunk;
        settings.threads = chunk == 7 ? 3 : 2;
        settings.policy = chunk == 1 ? "lru" : "decay";
        settings.io = chunk == 64 ? "pread" : "uring";
        const auto model = Model::load(directory, settings);
        EXPECT_EQ(teacher_forced(*model, tokens, 12), reference) << "slots " << slots << ", chunk " << chunk;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Golden,
                         testing::Values("qwen3-affine4-gs64", "qwen3-hf-bf16", "qwen3_moe-affine4-gs64",
                                         "qwen3_moe-affine6-gs32", "qwen3_moe-hf-bf16", "qwen3_moe-many-affine4-gs32",
                                         "qwen3_moe-mxfp8", "qwen3_moe-nvfp4"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace sluice::model
