// Packed checkpoints: the same tensors, each expert in one piece, the same logits.
#include "model/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/error.h"
#include "base/memory.h"
#include "cache/part_reads.h"
#include "model/checkpoint_files.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model/plan.h"
#include "model/short_run.h"
#include "model/synth/shapes.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using testing::UnorderedElementsAre;

const CheckpointProgress kGoOn = [](std::uint64_t, std::uint64_t) { return true; };

fs::path fixture(const std::string& name) { return fs::path(SLUICE_SOURCE_DIR) / "tests/data/models" / name; }

ModelPlan planned(const fs::path& directory) { return ModelPlan(directory, all_resident()); }

bool pack(const fs::path& source, const fs::path& destination, std::uint64_t shard_bytes = kMaxShardBytes,
          const CheckpointProgress& progress = kGoOn) {
  const ModelPlan model = planned(source);
  return write_packed(plan_packing(model.checkpoint, model.experts, shard_bytes), model.checkpoint, destination, 3,
                      progress);
}

std::string file_content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string slice_content(const stream::Checkpoint& checkpoint, const cache::Slice& slice) {
  std::ifstream file(checkpoint.files()[static_cast<std::size_t>(slice.file)].path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(slice.offset));
  std::string bytes(slice.bytes, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(slice.bytes));
  return bytes;
}

std::string tensor_content(const stream::Checkpoint& checkpoint, const stream::TensorInfo& tensor) {
  return slice_content(checkpoint, {tensor.file, tensor.offset, tensor.bytes});
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  return names;
}

/// Logits of a short prompt and some tokens after it; 0 slots: one for each expert.
std::vector<float> logits(const fs::path& directory, int slots) {
  RuntimeSettings settings;
  settings.threads = 2;
  settings.prefill_chunk = slots > 0 ? 5 : 64;
  if (slots > 0) settings.cache_slots = slots;
  return short_run(*Model::load(directory, settings));
}

/// Every fixture whose experts lie in pieces: all families, and the layouts of several publishers.
std::vector<std::string> fixtures() {
  std::vector<std::string> names;
  for (const std::string& name : names_in(fixture(""))) {
    const ModelPlan plan = planned(fixture(name));
    if (!plan.experts.empty() && cache::range_count(plan.experts.front().records, 0) > 1) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void expect_every_tensor(const ModelPlan& before, const ModelPlan& after) {
  EXPECT_GT(after.checkpoint.files().size(), 2U);
  EXPECT_EQ(after.checkpoint.tensor_bytes(), before.checkpoint.tensor_bytes());
  std::set<std::string> expected;  // names of all tensors
  for (std::size_t l = 0; l < before.experts.size(); ++l) {
    const ExpertLayout& from = before.experts[l];
    const ExpertLayout& to = after.experts[l];
    ASSERT_EQ(from.records.parts, to.records.parts);
    for (int e = 0; e < from.records.experts; ++e) {
      for (int part = 0; part < from.records.parts; ++part) {
        EXPECT_EQ(slice_content(before.checkpoint, from.records.slice(e, part)),
                  slice_content(after.checkpoint, to.records.slice(e, part)))
            << l << " " << e << " " << part;
        const std::string name = from.part_tensors[static_cast<std::size_t>(part)].name_of(e);
        EXPECT_EQ(to.part_tensors[static_cast<std::size_t>(part)].name_of(e), name);
        const stream::TensorInfo& tensor = after.checkpoint.get(name);
        EXPECT_EQ(tensor.shape, from.part_tensors[static_cast<std::size_t>(part)].shape);
        EXPECT_EQ(tensor.offset, to.records.slice(e, part).offset);
        EXPECT_TRUE(expected.insert(name).second) << name << " twice";
      }
    }
    EXPECT_EQ(kernels::to_string(from.down.format), kernels::to_string(to.down.format));
  }
  for (const stream::TensorInfo& tensor : before.checkpoint.tensors()) {
    const stream::TensorInfo* same = after.checkpoint.find(tensor.name);
    if (same == nullptr) {
      EXPECT_EQ(tensor.shape[0], before.expert_count()) << tensor.name << " is no stack of experts";
      continue;
    }
    EXPECT_EQ(same->dtype, tensor.dtype);
    EXPECT_EQ(same->shape, tensor.shape);
    EXPECT_EQ(tensor_content(after.checkpoint, *same), tensor_content(before.checkpoint, tensor)) << tensor.name;
    expected.insert(tensor.name);
  }
  EXPECT_EQ(after.checkpoint.tensors().size(), expected.size());
}

void expect_records(const ModelPlan& plan) {
  std::pair<int, std::uint64_t> end{0, 0};  // of the expert before: file and offset
  for (const ExpertLayout& layout : plan.experts) {
    for (int e = 0; e < layout.records.experts; ++e) {
      EXPECT_EQ(cache::range_count(layout.records, e), 1);
      const cache::Slice& first = layout.records.slice(e, 0);
      if (first.file == end.first) {
        EXPECT_EQ(first.offset, end.second) << "nothing lies between experts";
      } else {
        EXPECT_GT(first.file, end.first);
        EXPECT_EQ(first.offset % kIoAlignment, 0U);
      }
      std::uint64_t offset = first.offset;
      for (int part = 0; part < layout.records.parts; ++part) {
        const cache::Slice& slice = layout.records.slice(e, part);
        EXPECT_EQ(slice.offset, offset) << "parts in the order in which they are used";
        EXPECT_EQ(slice.offset % size_of(layout.part_tensors[static_cast<std::size_t>(part)].dtype), 0U) << "aligned";
        offset += slice.bytes;
      }
      end = {first.file, offset};
    }
  }
}

struct Pack : testing::TestWithParam<std::string> {};

TEST_P(Pack, KeepsTensorsAndLogitsAndMakesEachExpertOneRecord) {
  const TemporaryDirectory directory;
  const fs::path source = fixture(GetParam());
  const fs::path packed = directory.path() / "packed";
  // Small enough that every fixture takes several shards.
  ASSERT_TRUE(pack(source, packed, 128 * kKiB));
  const ModelPlan before = planned(source);
  const ModelPlan after = planned(packed);
  expect_every_tensor(before, after);
  expect_records(after);
  for (const int slots : {0, before.top_k}) {
    EXPECT_TRUE(logits(packed, slots) == logits(source, slots)) << slots << " slots";
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Pack, testing::ValuesIn(fixtures()), [](const auto& param) {
  std::string name = param.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(PackFixtures, HaveEveryFamilyThatSynthKnows) {
  std::set<std::string> types;
  for (const std::string& name : fixtures()) types.insert(planned(fixture(name)).spec.model_type);
  for (const synth::ModelShape& shape : synth::model_shapes()) {
    const std::string type = parse_json(shape.config, shape.name).at("model_type");
    EXPECT_EQ(types.count(type), 1U) << type;
  }
}

/// What config.json says of one matrix of the stack holds for the matrices that it becomes.
TEST(PackFormats, OverridesOfModulesStillApply) {
  CheckpointFiles files = CheckpointFiles::read("qwen3_moe-affine4-gs64");
  // 4-bit codes read as 8-bit ones of half as many columns would not fit; a plain matrix does.
  const std::string path = "model.layers.1.mlp.switch_mlp.down_proj";
  const Tensor codes = files.take(path + ".weight");
  const Tensor scales = files.take(path + ".scales");
  const Tensor biases = files.take(path + ".biases");
  kernels::Format format = kernels::Format{kernels::Mode::affine, 4, 64, scales.dtype};
  std::vector<std::int64_t> shape = codes.shape;
  shape.back() *= 8;
  files.tensors[path + ".weight"] =
      bf16_tensor(shape, CheckpointFiles::decoded(format, static_cast<int>(shape.back()), codes, scales, biases));
  files.config["quantization"][path] = false;
  const TemporaryDirectory directory;
  fs::create_directory(directory.path() / "source");
  files.write(directory.path() / "source");
  ASSERT_TRUE(pack(directory.path() / "source", directory.path() / "packed"));
  EXPECT_EQ(planned(directory.path() / "packed").experts[1].down.format, kernels::plain_format(DType::bf16));
  EXPECT_TRUE(logits(directory.path() / "packed", 0) == logits(directory.path() / "source", 0));
}

struct PackSource : testing::Test {
  PackSource() {
    fs::create_directory(source);
    CheckpointFiles::read("qwen3_moe-affine4-gs64").write(source);
  }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(source / name, std::ios::binary) << content;
  }

  TemporaryDirectory directory;
  fs::path source = directory.path() / "source";
  fs::path packed = directory.path() / "packed";
};

TEST_F(PackSource, BringsTheOtherFilesAlong) {
  write("tokenizer.json", "{}");
  write("README.md", "# A model\n");
  write("pytorch_model.bin", "weights");
  write("pytorch_model.bin.index.json", "{}");
  write("consolidated.safetensors", "weights");
  fs::create_directory(source / "original");
  const auto before = names_in(source);
  ASSERT_TRUE(pack(source, packed));
  EXPECT_THAT(names_in(packed),
              UnorderedElementsAre("config.json", "tokenizer.json", "README.md", "model.safetensors.index.json",
                                   "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  for (const char* name : {"config.json", "tokenizer.json", "README.md"}) {
    EXPECT_EQ(file_content(packed / name), file_content(source / name));
  }
  EXPECT_EQ(names_in(source), before);
}

TEST_F(PackSource, WhatIsPackedIsNotPackedAgain) {
  ASSERT_TRUE(pack(source, packed));
  EXPECT_THAT([&] { pack(packed, directory.path() / "again"); },
              ThrowsMessage<Error>(AllOf(HasSubstr(packed.string()), HasSubstr("nothing to pack"))));
  EXPECT_THAT([&] { pack(fixture("qwen3-affine4-gs64"), directory.path() / "again"); },
              ThrowsMessage<Error>(AllOf(HasSubstr("qwen3-affine4-gs64"), HasSubstr("no routed experts"))));
  EXPECT_FALSE(fs::exists(directory.path() / "again"));
}

TEST_F(PackSource, WhatIsReadInOneRangeIsNotPacked) {
  const ModelPlan model = planned(source);
  ExpertLayout layout;
  layout.part_tensors.resize(2);
  layout.records = {2, 2, {{0, 0, 10}, {0, 18, 10}, {0, 30, 10}, {0, 48, 10}}};
  EXPECT_THAT([&] { plan_packing(model.checkpoint, std::span(&layout, 1)); },
              ThrowsMessage<Error>(HasSubstr("nothing to pack")))
      << "a few bytes apart";
}

TEST_F(PackSource, TheSourceIsNoDestination) {
  const auto before = names_in(source);
  for (const fs::path& place : {source, source / "", source / "packed", source / ".." / "source" / "deep" / "er"}) {
    EXPECT_THAT([&] { pack(source, place); },
                ThrowsMessage<Error>(AllOf(HasSubstr(place.string()), HasSubstr("to be packed"))));
  }
  fs::create_directory_symlink(source, directory.path() / "link");
  EXPECT_THAT([&] { pack(source, directory.path() / "link"); }, ThrowsMessage<Error>(HasSubstr("to be packed")));
  EXPECT_THAT([&] { pack(source, directory.path()); }, ThrowsMessage<Error>(HasSubstr("not empty")));
  EXPECT_EQ(names_in(source), before);
}

TEST_F(PackSource, StoppedLeavesNothing) {
  EXPECT_FALSE(
      pack(source, packed, kMaxShardBytes, [](std::uint64_t done, std::uint64_t all) { return done < all / 2; }));
  EXPECT_THAT(names_in(directory.path()), UnorderedElementsAre("source"));
}

TEST_F(PackSource, AFileThatBecomesShorterLeavesNothing) {
  const ModelPlan model = planned(source);
  const PackPlan plan = plan_packing(model.checkpoint, model.experts);
  const fs::path file = source / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 1000);
  EXPECT_THAT([&] { write_packed(plan, model.checkpoint, packed, 2, kGoOn); },
              ThrowsMessage<Error>(AllOf(HasSubstr(file.string()), HasSubstr("changed"))));
  EXPECT_THAT(names_in(directory.path()), UnorderedElementsAre("source"));
}

TEST_F(PackSource, ATakenNameIsNamed) {
  CheckpointFiles files = CheckpointFiles::read("qwen3_moe-affine4-gs64");
  files.tensors["model.layers.0.mlp.experts.3.up_proj.scales"] = f32_tensor({1}, {1});
  files.write(source);
  EXPECT_THAT([&] { pack(source, packed); },
              ThrowsMessage<Error>(HasSubstr("'model.layers.0.mlp.experts.3.up_proj.scales' beside the stack")));
}

}  // namespace
}  // namespace sluice::model
