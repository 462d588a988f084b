// The forward pass against logits and router decisions of the reference implementation.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "model/golden_file.h"
#include "model/model.h"

namespace sluice::model {
namespace {

/// Checkpoints with the reference's results: those of the repository, or in the folder that SLUICE_FIXTURES names.
std::vector<std::filesystem::path> fixtures() {
  const char* elsewhere = std::getenv("SLUICE_FIXTURES");
  const std::filesystem::path folder =
      elsewhere != nullptr ? elsewhere : std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models";
  std::vector<std::filesystem::path> directories;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (exists(entry.path() / "expected.safetensors")) directories.push_back(entry.path());
  }
  std::sort(directories.begin(), directories.end());
  return directories;
}

struct Golden : testing::TestWithParam<std::filesystem::path> {
  std::filesystem::path directory = GetParam();
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

/// The layer of each MoE block.
std::vector<int> moe_layers(const ModelSpec& spec) {
  std::vector<int> layers;
  for (const BlockSpec& block : spec.blocks) {
    if (std::holds_alternative<MoeSpec>(block.operation)) layers.push_back(block.layer);
  }
  return layers;
}

/// Ids with their weights, row by row; the order within a row means nothing.
using Routes = std::vector<std::map<int, float>>;

Routes expected_routes(const GoldenFile& expected, const std::string& prefix, int top_k) {
  const std::vector<int> ids = expected.values<int>(prefix + "indices");
  const std::vector<float> scores = expected.values<float>(prefix + "scores");
  Routes routes(ids.size() / static_cast<std::size_t>(top_k));
  for (std::size_t i = 0; i < ids.size(); ++i) routes[i / static_cast<std::size_t>(top_k)][ids[i]] = scores[i];
  return routes;
}

TEST_P(Golden, RouterDecisionsAreTheReferences) {
  const auto model = Model::load(directory, exact_settings());
  const std::vector<int> layers = moe_layers(model->spec());
  const std::vector<int> prompt = expected.values<int>("prompt");
  const std::vector<int> greedy = expected.values<int>("greedy");
  std::map<std::string, Routes> seen;
  std::string tag = "prefill";
  model->observe_routes([&](cache::Phase, int layer, int, std::span<const int> ids, std::span<const float> weights) {
    const int at = layers[static_cast<std::size_t>(layer)];
    std::map<int, float>& row = seen[tag + ".layer." + std::to_string(at) + ".router."].emplace_back();
    for (std::size_t i = 0; i < ids.size(); ++i) row[ids[i]] = weights[i];
  });
  const auto ignore = [](int, int, std::span<float>) {};
  Session session = model->new_session();
  model->prefill(session, prompt, LogitsWanted::last, ignore);
  for (std::size_t i = 0; i + 1 < greedy.size(); ++i) {
    tag = "decode" + std::to_string(i);
    const SequenceStep step{&session, std::span(greedy).subspan(i, 1), LogitsWanted::last};
    model->forward(std::span(&step, 1), ignore);
  }
  EXPECT_EQ(seen.size(), layers.size() * greedy.size());
  for (int l = 0; l < model->spec().layers; ++l) {
    const bool is_moe = std::find(layers.begin(), layers.end(), l) != layers.end();
    EXPECT_EQ(expected.has("prefill.layer." + std::to_string(l) + ".router.indices"), is_moe) << l;
  }
  for (const auto& [name, routes] : seen) {
    const Routes reference = expected_routes(expected, name, model->info().top_k);
    ASSERT_EQ(routes.size(), reference.size()) << name;
    for (std::size_t row = 0; row < routes.size(); ++row) {
      ASSERT_EQ(routes[row].size(), reference[row].size()) << name;
      for (const auto& [id, weight] : routes[row]) {
        ASSERT_TRUE(reference[row].contains(id)) << name << " row " << row << " expert " << id;
        EXPECT_NEAR(weight, reference[row].at(id), 1e-4) << name;
      }
    }
  }
}

/// Everything that decides speed only, against one plain setting: equal logits, bit for bit.
TEST_P(Golden, PlacementNeverChangesALogit) {
  const std::vector<int> tokens = prompt_and_greedy(expected, "", 8);
  RuntimeSettings plain;
  plain.threads = 1;
  const auto resident = Model::load(directory, plain);
  const std::vector<float> reference = teacher_forced(*resident, tokens, tokens.size());
  const std::array<int, 3> slot_counts{resident->info().top_k, resident->info().top_k + 1, resident->info().experts};
  constexpr std::array kPaths{MoePath::automatic, MoePath::fused, MoePath::stacked, MoePath::stacked_split,
                              MoePath::per_expert};
  constexpr std::array kChunks{1, 7, 64};
  // Every path with every number of slots; the rest goes round.
  for (std::size_t i = 0; i < slot_counts.size() * kPaths.size(); ++i) {
    const int slots = slot_counts[i % slot_counts.size()];
    const int chunk = kChunks[(i + i / slot_counts.size()) % kChunks.size()];
    RuntimeSettings settings;
    if (resident->info().experts > 0) settings.cache_slots = slots;
    settings.moe_path = kPaths[i % kPaths.size()];
    settings.prefill_chunk = chunk;
    settings.threads = chunk == 7 ? 3 : 2;
    settings.policy = i % 2 == 1 ? "lru" : "decay";
    settings.io = i % 4 == 2 ? "pread" : "uring";
    settings.prefetch = i % 3 == 0 ? cache::LookaheadMode::off : cache::LookaheadMode::on;
    const auto model = Model::load(directory, settings);
    EXPECT_EQ(teacher_forced(*model, tokens, 12), reference) << "slots " << slots << ", chunk " << chunk;
  }
}

/// Experts in slots and experts in a mapping: equal logits, bit for bit, and the same routes seen on the way.
TEST_P(Golden, MappedExpertsGiveTheLogitsOfSlots) {
  const std::vector<int> tokens = prompt_and_greedy(expected, "", 8);
  std::vector<int> routes, mapped_routes;
  const auto observe = [](Model& model, std::vector<int>& seen) {
    model.observe_routes([&](cache::Phase, int layer, int, std::span<const int> ids, std::span<const float>) {
      seen.push_back(layer);
      seen.insert(seen.end(), ids.begin(), ids.end());
    });
  };
  RuntimeSettings settings;
  settings.threads = 2;
  settings.prefill_chunk = 7;
  const auto slots = Model::load(directory, settings);
  observe(*slots, routes);
  const std::vector<float> reference = teacher_forced(*slots, tokens, 12);
  for (const MoePath path : {MoePath::automatic, MoePath::per_expert}) {
    settings.io = "mmap";
    settings.moe_path = path;
    const auto model = Model::load(directory, settings);
    const bool has_experts = model->info().experts > 0;
    EXPECT_EQ(model->info().mapped, has_experts);
    EXPECT_EQ(model->info().io.engine == "mmap", has_experts);
    EXPECT_EQ(model->info().notices.size() - slots->info().notices.size(), has_experts ? 0U : 1U);
    EXPECT_EQ(model->info().slot_bytes, 0U);
    EXPECT_EQ(model->experts(), nullptr);
    mapped_routes.clear();
    observe(*model, mapped_routes);
    EXPECT_EQ(teacher_forced(*model, tokens, 12), reference);
    EXPECT_EQ(mapped_routes, routes);
  }
}

/// A prompt's state can be kept, brought back, and continued exactly.
TEST_P(Golden, StateComesBackExactly) {
  const std::vector<int> tokens = prompt_and_greedy(expected, "", 8);
  RuntimeSettings settings;
  settings.prefill_chunk = 5;
  const auto model = Model::load(directory, settings);
  const std::vector<float> reference = teacher_forced(*model, tokens, tokens.size());
  const auto vocabulary = static_cast<std::size_t>(model->info().vocabulary);
  const auto run = [&](Session& session, std::size_t from, std::size_t to) {
    std::vector<float> logits;
    model->prefill(session, std::span(tokens).subspan(from, to - from), LogitsWanted::all,
                   [&](int, int, std::span<float> row) { logits.insert(logits.end(), row.begin(), row.end()); });
    return logits;
  };
  const auto rows = [&](std::size_t from, std::size_t to) {
    return std::vector<float>(reference.begin() + static_cast<std::ptrdiff_t>(from * vocabulary),
                              reference.begin() + static_cast<std::ptrdiff_t>(to * vocabulary));
  };
  Session session = model->new_session();
  run(session, 0, 9);
  session.checkpoint();
  const SessionSnapshot snapshot = session.save();
  run(session, 9, tokens.size());
  const auto back = static_cast<std::size_t>(session.truncate(11));  // 9 for models with recurrent layers
  EXPECT_GE(back, 9U);
  EXPECT_EQ(run(session, back, tokens.size()), rows(back, tokens.size()));
  Session other = model->new_session();
  run(other, 3, 15);
  other.restore(snapshot);
  EXPECT_EQ(run(other, 9, tokens.size()), rows(9, tokens.size()));
}

/// Sequences that are computed together do not see each other.
TEST_P(Golden, ABatchGivesEachSequenceItsOwnLogits) {
  const std::vector<int> tokens = prompt_and_greedy(expected, "", 8);
  const auto model = Model::load(directory, RuntimeSettings());
  const std::vector<float> reference = teacher_forced(*model, tokens, tokens.size());
  Session first = model->new_session();
  Session second = model->new_session();
  const auto ignore = [](int, int, std::span<float>) {};
  model->prefill(second, std::span(tokens).first(7), LogitsWanted::none, ignore);
  const std::array<SequenceStep, 2> steps{SequenceStep{&first, std::span(tokens).first(12), LogitsWanted::last},
                                          SequenceStep{&second, std::span(tokens).subspan(7, 6), LogitsWanted::last}};
  std::vector<std::vector<float>> logits(2);
  model->forward(steps, [&](int step, int, std::span<float> row) {
    logits[static_cast<std::size_t>(step)].assign(row.begin(), row.end());
  });
  const auto vocabulary = static_cast<std::ptrdiff_t>(model->info().vocabulary);
  const auto row = [&](std::ptrdiff_t i) {
    return std::vector<float>(reference.begin() + i * vocabulary, reference.begin() + (i + 1) * vocabulary);
  };
  EXPECT_EQ(logits[0], row(11));
  EXPECT_EQ(logits[1], row(12));
}

/// Rounding keys and values to eight bits is a small error in most rows; where it changes a router's mind, a large one.
TEST_P(Golden, EightBitKeysAndValuesStayNear) {
  const std::vector<float> reference = expected.values<float>("prefill.logits");
  RuntimeSettings settings = exact_settings();
  settings.cache_type = DType::i8;
  const auto model = Model::load(directory, settings);
  const std::vector<int> prompt = expected.values<int>("prompt");
  const std::vector<float> logits = teacher_forced(*model, prompt, prompt.size());
  const std::size_t vocabulary = logits.size() / prompt.size();
  std::vector<double> errors;
  for (std::size_t row = 0; row < prompt.size(); ++row) {
    double squares = 0;
    for (std::size_t i = row * vocabulary; i < (row + 1) * vocabulary; ++i) {
      squares += std::pow(logits[i] - reference[i], 2);
    }
    errors.push_back(std::sqrt(squares / static_cast<double>(vocabulary)) / standard_deviation(reference));
  }
  std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
  EXPECT_LE(errors[errors.size() / 2], 0.1);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Golden, testing::ValuesIn(fixtures()), [](const auto& fixture) {
  std::string name = fixture.param.filename();
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace sluice::model
