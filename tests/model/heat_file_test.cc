// Heat files: parsed as untrusted, bound to their checkpoint, and of use to the next run.
#include "model/heat_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/model.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using cache::Phase;
using ::testing::HasSubstr;

const std::filesystem::path kModels = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models";
const std::filesystem::path kModel = kModels / "qwen3_moe-many-affine4-gs32";

std::string refusal(const std::string& text) {
  try {
    parse_heat(text, "file");
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}

const Heat kHeat{"0123456789abcdef", "some \"model\"", {{1, 0, 2.5}, {1e9, 0.125}}};

TEST(HeatFile, IsReadBackAsItWasWritten) { EXPECT_EQ(parse_heat(heat_text(kHeat), "file"), kHeat); }

TEST(HeatFile, ANameThatIsNoTextIsWrittenAll) {
  Heat heat = kHeat;
  heat.model = "a\xff\n";
  EXPECT_EQ(parse_heat(heat_text(heat), "file").layers, heat.layers);
}

TEST(HeatFile, WhatIsNoHeatFileIsRefusedByName) {
  EXPECT_THAT(refusal("[]"), HasSubstr("file: no heat file"));
  EXPECT_THAT(refusal("{}"), HasSubstr("format"));
  EXPECT_THAT(refusal(R"({"format": "sluice heat 2"})"), HasSubstr("expected \"sluice heat 1\""));
  const std::string begin = R"({"format": "sluice heat 1", "checkpoint": "x", "model": "y", "layers": )";
  EXPECT_THAT(refusal(begin + "7}"), HasSubstr("layers"));
  EXPECT_THAT(refusal(begin + "[[]]}"), HasSubstr("layer 0"));
  EXPECT_THAT(refusal(begin + "[[1],[1,-1]]}"), HasSubstr("layer 1, expert 1"));
  EXPECT_THAT(refusal(begin + "[[Infinity]]}"), HasSubstr("layer 0, expert 0"));
  EXPECT_THAT(refusal(begin + "[[NaN]]}"), HasSubstr("layer 0, expert 0"));
  EXPECT_THAT(refusal(begin + "[[\"1\"]]}"), HasSubstr("layer 0, expert 0"));
}

TEST(HeatFile, OldLookupsDecayAndNewOnesCount) {
  Heat heat{"", "", {{1000, 0, 8}}};
  add_lookups(heat, std::vector<std::vector<std::uint64_t>>{{0, 3, 1}}, 4096);
  EXPECT_EQ(heat.layers, (std::vector<std::vector<double>>{{500, 3, 5}}));
  add_lookups(heat, std::vector<std::vector<std::uint64_t>>{{0, 0, 0}}, 1'000'000'000);
  EXPECT_EQ(heat.layers, (std::vector<std::vector<double>>{{0, 0, 0}}));
}

TEST(CheckpointIdentity, TellsModelsApartAndIsTheSameEveryTime) {
  const auto identity = [](const char* name) { return checkpoint_identity(stream::Checkpoint::open(kModels / name)); };
  EXPECT_EQ(identity("qwen3_moe-many-affine4-gs32"), identity("qwen3_moe-many-affine4-gs32"));
  std::set<std::string> identities;
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    identities.insert(identity(entry.path().filename().c_str()));
    ++count;
  }
  EXPECT_GT(count, 3u);
  EXPECT_EQ(identities.size(), count);
}

class WarmStartTest : public ::testing::Test {
 protected:
  std::unique_ptr<Model> load(const std::filesystem::path& directory = kModel) const {
    RuntimeSettings settings;
    settings.threads = 2;
    settings.cache_slots = 12;
    settings.heat = file_;
    return Model::load(directory, settings);
  }

  static std::vector<float> logits_of(Model& model) {
    std::vector<int> tokens(48);
    std::iota(tokens.begin(), tokens.end(), 5);
    Session session = model.new_session();
    std::vector<float> all;
    for (const int& token : tokens) {
      const SequenceStep step{&session, std::span(&token, 1), LogitsWanted::all};
      model.forward(std::span(&step, 1),
                    [&](int, int, std::span<float> row) { all.insert(all.end(), row.begin(), row.end()); });
    }
    return all;
  }

  void write(const std::string& text) const { std::ofstream(file_) << text; }

  stream::ScratchDirectory scratch_;
  std::filesystem::path file_ = scratch_.write("heat.json", "");
};

TEST_F(WarmStartTest, FillsTheSlotsAndChangesNoToken) {
  std::filesystem::remove(file_);
  const auto cold = load();
  EXPECT_EQ(cold->info().warm_start.slots, 0u) << "a file that is not there yet is no error";
  const std::vector<float> expected = logits_of(*cold);
  const cache::LookupCounts before = cold->experts()->counts(Phase::decode);
  write(cold->heat_text());

  const auto warm = load();
  const cache::ExpertCache& experts = *warm->experts();
  EXPECT_EQ(warm->info().warm_start.slots, 12u * static_cast<std::uint64_t>(experts.layers()));
  EXPECT_GT(warm->info().warm_start.bytes, 0u);
  EXPECT_EQ(experts.counts(Phase::decode).lookups, 0u);
  EXPECT_EQ(experts.counts(Phase::decode).bytes_read, 0u) << "no phase counts what was read during load";
  const Heat heat = parse_heat(cold->heat_text(), "file");
  for (int layer = 0; layer < experts.layers(); ++layer) {
    const std::vector<double>& lookups = heat.layers[static_cast<std::size_t>(layer)];
    double coldest_here = INFINITY;
    double hottest_elsewhere = 0;
    for (int expert = 0; expert < experts.experts(layer); ++expert) {
      const double value = lookups[static_cast<std::size_t>(expert)];
      if (experts.resident(layer, expert)) {
        coldest_here = std::min(coldest_here, value);
      } else {
        hottest_elsewhere = std::max(hottest_elsewhere, value);
      }
    }
    EXPECT_GE(coldest_here, hottest_elsewhere) << layer;
  }

  EXPECT_EQ(logits_of(*warm), expected);
  const cache::LookupCounts after = experts.counts(Phase::decode);
  EXPECT_EQ(after.lookups, before.lookups);
  EXPECT_GT(after.hits, before.hits);
  EXPECT_LT(after.misses_cold, before.misses_cold);
  EXPECT_EQ(after.hits + after.misses_cold + after.misses_capacity, after.lookups);
}

TEST_F(WarmStartTest, HeatOfAnotherModelIsRefusedByName) {
  write(heat_text({"0123456789abcdef", "another-model", {{1}}}));
  try {
    load();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(file_.string()));
    EXPECT_THAT(error.what(), HasSubstr("another-model"));
  }
}

TEST_F(WarmStartTest, HeatWithOtherLayersIsRefused) {
  write(heat_text({checkpoint_identity(stream::Checkpoint::open(kModel)), "same", {{1}}}));
  EXPECT_THROW(load(), Error);
}

TEST_F(WarmStartTest, ExpertsWithoutHeatAreNotRead) {
  std::filesystem::remove(file_);
  const auto model = load();
  Heat heat = parse_heat(model->heat_text(), "file");
  heat.layers[0][7] = 3;
  write(heat_text(heat));
  const auto warm = load();
  EXPECT_EQ(warm->info().warm_start.slots, 1u);
  EXPECT_TRUE(warm->experts()->resident(0, 7));
}

}  // namespace
}  // namespace sluice::model
