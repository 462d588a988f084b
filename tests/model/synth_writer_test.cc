#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model/synth/shapes.h"
#include "model/synth/write_synthetic.h"
#include "stream/checkpoint.h"
#include "stream/scratch.h"

namespace sluice::model::synth {
namespace {

namespace fs = std::filesystem;

using nlohmann::json;
using stream::message_of;
using stream::ScratchDirectory;
using ::testing::AllOf;
using ::testing::HasSubstr;

const CheckpointProgress kGoOn = [](std::uint64_t, std::uint64_t) { return true; };

/// qwen3_moe in small: real widths between the parts, a few MB in all.
CheckpointPlan small_plan(const kernels::Format& format = {kernels::Mode::affine, 4, 64, DType::bf16},
                          std::uint64_t seed = 1) {
  json config = parse_json(model_shapes().front().config, "config.json");
  config.update({{"hidden_size", 256},
                 {"num_hidden_layers", 4},
                 {"vocab_size", 1000},
                 {"num_attention_heads", 8},
                 {"head_dim", 32},
                 {"moe_intermediate_size", 128},
                 {"num_experts", 64},
                 {"max_position_embeddings", 512}});
  config["quantization"] = quantization_object(config, format);
  CheckpointPlan plan;
  plan.config = config.dump();
  plan.files = split_into_files(plan_tensors(config, DType::bf16), 4 * kMiB);
  json map;
  for (const PlannedFile& file : plan.files) {
    for (const PlannedTensor& tensor : file.tensors) map[tensor.header.name] = file.name;
  }
  plan.index = json{{"weight_map", map}}.dump();
  plan.layers = 4;
  plan.seed = seed;
  return plan;
}

/// Every file of a directory with its content.
std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(SynthWriter, WritesWhatThePlanSays) {
  const ScratchDirectory scratch;
  const fs::path directory = scratch.path() / "model";
  const CheckpointPlan plan = small_plan();
  ASSERT_GT(plan.files.size(), 1U);
  EXPECT_TRUE(write_synthetic(plan, directory, 2, kGoOn));
  EXPECT_EQ(entries(scratch.path()), 1U);
  const auto checkpoint = stream::Checkpoint::open(directory);
  EXPECT_EQ(checkpoint.files().size(), plan.files.size());
  EXPECT_EQ(checkpoint.tensors().size(), plan.tensor_count());
  for (const PlannedFile& file : plan.files) {
    for (const PlannedTensor& tensor : file.tensors) {
      const stream::TensorInfo& found = checkpoint.get(tensor.header.name);
      EXPECT_EQ(found.shape, tensor.header.shape);
      EXPECT_EQ(checkpoint.files()[static_cast<std::size_t>(found.file)].path.filename(), file.name);
    }
  }
}

TEST(SynthWriter, SameSeedSameBytesWhateverTheThreads) {
  const ScratchDirectory scratch;
  write_synthetic(small_plan(), scratch.path() / "one", 1, kGoOn);
  write_synthetic(small_plan(), scratch.path() / "five", 5, kGoOn);
  write_synthetic(small_plan({kernels::Mode::affine, 4, 64, DType::bf16}, 2), scratch.path() / "other", 2, kGoOn);
  EXPECT_EQ(contents(scratch.path() / "one"), contents(scratch.path() / "five"));
  EXPECT_NE(contents(scratch.path() / "one"), contents(scratch.path() / "other"));
}

TEST(SynthWriter, StoppedLeavesNothing) {
  const ScratchDirectory scratch;
  std::uint64_t total = 0;
  EXPECT_FALSE(write_synthetic(small_plan(), scratch.path() / "model", 2, [&](std::uint64_t done, std::uint64_t all) {
    total = all;
    return done < all / 2;
  }));
  EXPECT_EQ(total, small_plan().bytes());
  EXPECT_EQ(entries(scratch.path()), 0U);
}

TEST(SynthWriter, TakesAnEmptyDirectoryAndRefusesAnyOther) {
  const ScratchDirectory scratch;
  const fs::path directory = scratch.path() / "model";
  fs::create_directory(directory);
  EXPECT_TRUE(write_synthetic(small_plan(), directory.string() + "/", 2, kGoOn));
  const auto before = contents(directory);
  EXPECT_THAT(message_of<Error>([&] { write_synthetic(small_plan(), directory, 2, kGoOn); }),
              AllOf(HasSubstr(directory.string()), HasSubstr("not empty")));
  EXPECT_EQ(contents(directory), before);
  EXPECT_EQ(entries(scratch.path()), 1U);
}

TEST(SynthWriter, PlacesThatCannotBeAreNamed) {
  const ScratchDirectory scratch;
  const fs::path file = scratch.write("file", "text");
  EXPECT_THAT(message_of<Error>([&] { write_synthetic(small_plan(), file, 2, kGoOn); }),
              AllOf(HasSubstr(file.string()), HasSubstr("not a directory")));
  const fs::path deep = scratch.path() / "missing" / "model";
  EXPECT_THAT(message_of<Error>([&] { write_synthetic(small_plan(), deep, 2, kGoOn); }),
              AllOf(HasSubstr(deep.string()), HasSubstr("does not exist")));
  EXPECT_EQ(entries(scratch.path()), 1U);
}

class SynthWeights : public ::testing::TestWithParam<kernels::Format> {};

/// What random weights are for: the residual stream neither dies nor explodes, tokens differ, and routing moves.
TEST_P(SynthWeights, MakeAModelWhoseRoutingMoves) {
  const ScratchDirectory scratch;
  ASSERT_TRUE(write_synthetic(small_plan(GetParam()), scratch.path() / "model", 2, kGoOn));
  RuntimeSettings settings;
  settings.threads = 2;
  settings.cache_slots = 64;
  const auto model = Model::load(scratch.path() / "model", settings);
  constexpr int kTokens = 64;
  std::vector<int> tokens;
  for (int i = 0; i < kTokens; ++i) tokens.push_back(i * 15);

  std::map<int, std::set<int>> used;               // by layer
  std::map<int, std::set<std::set<int>>> choices;  // by layer, one per token
  model->observe_routes([&](cache::Phase, int layer, int, std::span<const int> ids, std::span<const float>) {
    used[layer].insert(ids.begin(), ids.end());
    choices[layer].insert({ids.begin(), ids.end()});
  });
  std::set<std::ptrdiff_t> best;
  Session session = model->new_session();
  model->prefill(session, tokens, LogitsWanted::all, [&](int, int, std::span<float> logits) {
    double squares = 0;
    for (const float logit : logits) {
      ASSERT_TRUE(std::isfinite(logit));
      squares += static_cast<double>(logit) * logit / static_cast<double>(logits.size());
    }
    EXPECT_GT(std::sqrt(squares), 0.3);
    EXPECT_LT(std::sqrt(squares), 3);
    best.insert(std::max_element(logits.begin(), logits.end()) - logits.begin());
  });
  EXPECT_GT(best.size(), kTokens * 3 / 4) << "most tokens are followed by a token of their own";
  ASSERT_EQ(used.size(), 4U);
  for (const auto& [layer, experts] : used) {
    EXPECT_GT(experts.size(), 55U) << "of 64 in layer " << layer;
    EXPECT_GT(choices[layer].size(), kTokens * 9U / 10) << "different tokens, different experts";
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, SynthWeights,
                         ::testing::Values(kernels::Format{kernels::Mode::affine, 4, 64, DType::bf16},
                                           kernels::Format{kernels::Mode::affine, 2, 32, DType::bf16},
                                           kernels::Format{kernels::Mode::affine, 8, 128, DType::bf16},
                                           kernels::Format{kernels::Mode::mxfp4, 4, 32, DType::u8},
                                           kernels::Format{kernels::Mode::nvfp4, 4, 16, DType::u8},
                                           kernels::Format{kernels::Mode::mxfp8, 8, 32, DType::u8}));

}  // namespace
}  // namespace sluice::model::synth
