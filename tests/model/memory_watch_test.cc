// A model whose cache shrinks and grows while it runs says the same.
#include "cache/memory_watch.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

#include "base/units.h"
#include "model/model.h"

namespace sluice::model {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models/qwen3_moe-many-affine4-gs32";

std::unique_ptr<Model> load_model(int slots) {
  RuntimeSettings settings;
  settings.threads = 2;
  settings.cache_slots = slots;
  settings.prefill_chunk = 8;
  return Model::load(kModel, settings);
}

/// Logits of 24 tokens as a prompt in three chunks and 40 tokens one by one.
std::vector<float> logits_of(Model& model) {
  std::vector<int> tokens(64);
  std::iota(tokens.begin(), tokens.end(), 5);
  Session session = model.new_session();
  std::vector<float> all;
  const auto keep = [&](int, int, std::span<float> row) { all.insert(all.end(), row.begin(), row.end()); };
  const std::span<const int> given(tokens);
  model.prefill(session, given.first(24), LogitsWanted::all, keep);
  for (std::size_t i = 24; i < given.size(); ++i) {
    const SequenceStep step{&session, given.subspan(i, 1), LogitsWanted::all};
    model.forward(std::span(&step, 1), keep);
  }
  return all;
}

TEST(ModelUnderMemoryPressure, SlotsThatComeAndGoChangeNoToken) {
  const auto calm = load_model(12);
  const std::vector<float> expected = logits_of(*calm);
  EXPECT_EQ(calm->experts()->slots_retired(), 0u);
  for (unsigned seed = 1; seed <= 4; ++seed) {
    const auto model = load_model(12);
    std::mt19937 random(seed);
    double now = 0;
    int reads = 0;
    model->watch_memory(
        [&] {
          ++reads;
          cache::MemoryPressure pressure;
          pressure.available.bytes = random() % 3 == 0 ? random() % (100 * kMiB) : kGiB;
          return pressure;
        },
        [&] { return now += 4; });
    EXPECT_EQ(logits_of(*model), expected);
    EXPECT_GT(reads, 0);
    EXPECT_GT(model->experts()->slots_retired(), 0u);
    EXPECT_GT(model->experts()->slots_restored(), 0u);
    for (int layer = 0; layer < model->experts()->layers(); ++layer) {
      EXPECT_GE(model->experts()->slots_in_use(layer), model->info().top_k);
    }
  }
}

}  // namespace
}  // namespace sluice::model
