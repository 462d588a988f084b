// Checkpoints as their publishers store them: fixtures rewritten into other layouts give the same logits, bit for bit
// where the weights are the same numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "model/checkpoint_files.h"
#include "model/model.h"
#include "model/short_run.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Ran {
  std::vector<float> logits;
  std::vector<std::string> notices;
};

/// Logits of a short prompt and some tokens after it.
Ran run(const CheckpointFiles& files, bool streamed = false) {
  const TemporaryDirectory directory;
  files.write(directory.path());
  RuntimeSettings settings;
  settings.threads = 2;
  settings.prefill_chunk = streamed ? 5 : 64;
  auto model = Model::load(directory.path(), settings);
  if (streamed && model->info().top_k > 0) {
    settings.cache_slots = model->info().top_k;
    model = Model::load(directory.path(), settings);
  }
  Ran result;
  result.notices = model->info().notices;
  result.logits = short_run(*model);
  return result;
}

void expect_same(const CheckpointFiles& original, const CheckpointFiles& rewritten) {
  const std::vector<float> expected = run(original).logits;
  ASSERT_TRUE(std::all_of(expected.begin(), expected.end(), [](float x) { return std::isfinite(x); }));
  EXPECT_TRUE(run(rewritten).logits == expected);
  EXPECT_TRUE(run(rewritten, true).logits == expected) << "streamed";
}

CheckpointFiles decoded(const std::string& fixture) {
  CheckpointFiles files = CheckpointFiles::read(fixture);
  files.decode();
  return files;
}

const std::map<std::string, std::string> kSameNames{
    {"gate_proj", "gate_proj"}, {"up_proj", "up_proj"}, {"down_proj", "down_proj"}};
const std::map<std::string, std::string> kMixtralNames{{"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}};

/// [channels, taps, 1] -> [channels, 1, taps]: the same bytes.
void turn_convolutions(CheckpointFiles& files) {
  for (const std::string& name : files.names("conv")) {
    std::vector<std::int64_t>& shape = files.tensors[name].shape;
    if (shape.size() == 3) std::swap(shape[1], shape[2]);
  }
}

/// Rows of both, in halves or by turns: [E, I, X] twice -> [E, 2 I, X].
Tensor joined_rows(const Tensor& gate, const Tensor& up, bool alternating) {
  Tensor both{gate.dtype, gate.shape, ""};
  both.shape[1] *= 2;
  const std::size_t experts = static_cast<std::size_t>(gate.shape[0]);
  const std::size_t rows = static_cast<std::size_t>(gate.shape[1]);
  const std::size_t row = gate.bytes.size() / experts / rows;
  for (std::size_t e = 0; e < experts; ++e) {
    const std::size_t at = e * rows * row;
    if (!alternating) {
      both.bytes += gate.bytes.substr(at, rows * row) + up.bytes.substr(at, rows * row);
      continue;
    }
    for (std::size_t r = 0; r < rows; ++r) {
      both.bytes += gate.bytes.substr(at + r * row, row) + up.bytes.substr(at + r * row, row);
    }
  }
  return both;
}

/// PREFIX.embed_q and PREFIX.unembed_out -> PREFIX.kv_b_proj.
void join_kv_b(CheckpointFiles& files) {
  for (const std::string& name : files.names(".embed_q.weight")) {
    const std::string path = name.substr(0, name.find(".embed_q"));
    const Tensor query = files.take(name);
    const Tensor value = files.take(path + ".unembed_out.weight");
    const auto heads = static_cast<std::size_t>(query.shape[0]);
    const auto latent = static_cast<std::size_t>(query.shape[1]);
    const auto nope = static_cast<std::size_t>(query.shape[2]);
    const auto values = static_cast<std::size_t>(value.shape[1]);
    const std::vector<float> q = floats_of(query);
    const std::vector<float> v = floats_of(value);
    std::vector<float> both;
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t r = 0; r < nope; ++r) {
        for (std::size_t c = 0; c < latent; ++c) both.push_back(q[(h * latent + c) * nope + r]);
      }
      const auto first = v.begin() + static_cast<std::ptrdiff_t>(h * values * latent);
      both.insert(both.end(), first, first + static_cast<std::ptrdiff_t>(values * latent));
    }
    const auto rows = static_cast<std::int64_t>(heads * (nope + values));
    files.tensors[path + ".kv_b_proj.weight"] = bf16_tensor({rows, static_cast<std::int64_t>(latent)}, both);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Experts one by one

struct OneByOne {
  const char* fixture;
  bool decode;
  const std::map<std::string, std::string>& names;
};

void PrintTo(const OneByOne& layout, std::ostream* out) { *out << layout.fixture; }

struct ExpertsOneByOne : testing::TestWithParam<OneByOne> {};

TEST_P(ExpertsOneByOne, GiveTheLogitsOfTheStack) {
  CheckpointFiles files = CheckpointFiles::read(GetParam().fixture);
  if (GetParam().decode) files.decode();
  CheckpointFiles rewritten = files;
  rewritten.unstack("switch_mlp", "experts", GetParam().names);
  expect_same(files, rewritten);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ExpertsOneByOne,
                         testing::Values(OneByOne{"mixtral-affine4-gs64", true, kMixtralNames},
                                         OneByOne{"mixtral-affine4-gs64", false, kMixtralNames},
                                         OneByOne{"mixtral-affine4-gs64", false, kSameNames},
                                         OneByOne{"minimax-affine4-gs64", true, kMixtralNames},
                                         OneByOne{"minimax-affine4-gs64", false, kMixtralNames},
                                         OneByOne{"glm4_moe-affine4-gs64", false, kSameNames},
                                         OneByOne{"deepseek_v3-affine4-gs64", false, kSameNames},
                                         OneByOne{"deepseek_v32-affine4-gs32", false, kSameNames},
                                         OneByOne{"glm_moe_dsa-nvfp4", false, kSameNames},
                                         OneByOne{"qwen3_moe-mxfp8", false, kSameNames},
                                         OneByOne{"qwen3_moe-nvfp4", true, kSameNames}));

TEST(ForeignLayouts, ExpertsOfOneLayerMustShareOneFormat) {
  CheckpointFiles files = CheckpointFiles::read("qwen3_moe-affine4-gs64");
  files.unstack("switch_mlp", "experts", kSameNames);
  const std::string path = "model.layers.0.mlp.experts.3.up_proj";
  for (const char* part : {".scales", ".biases"}) {
    Tensor& tensor = files.tensors.at(path + part);
    tensor = f32_tensor(tensor.shape, floats_of(tensor));
  }
  EXPECT_THAT([&] { run(files); }, ThrowsMessage<Error>(AllOf(HasSubstr(path), HasSubstr("share one format"))));
}

// ---------------------------------------------------------------------------------------------------------------------
// Original names

TEST(ForeignLayouts, Qwen3NextOriginal) {
  CheckpointFiles files = decoded("qwen3_next-affine4-gs32");
  CheckpointFiles original = files;
  for (auto& [name, tensor] : files.tensors) {
    const bool norm = name.ends_with("layernorm.weight") || name.ends_with("model.norm.weight") ||
                      name.ends_with("q_norm.weight") || name.ends_with("k_norm.weight");
    if (!norm) continue;
    std::vector<float> stored = floats_of(tensor);
    for (float& x : stored) x = bf16_to_f32(f32_to_bf16(x - 1));
    original.tensors[name] = bf16_tensor(tensor.shape, stored);
    for (float& x : stored) x += 1;
    tensor = bf16_tensor(tensor.shape, stored);
  }
  original.unstack("switch_mlp", "experts", kSameNames);
  turn_convolutions(original);
  original.tensors["mtp.fc.weight"] = bf16_tensor({2}, {1, 2});
  expect_same(files, original);
}

TEST(ForeignLayouts, KimiLinearOriginal) {
  const CheckpointFiles files = decoded("kimi_linear-affine4-gs32");
  CheckpointFiles original = files;
  original.unstack("switch_mlp", "experts", kMixtralNames);
  original.rename(".mlp.e_score_correction_bias", ".mlp.gate.e_score_correction_bias");
  for (const std::string& name : original.names(".mlp.gate.weight")) {
    const std::string layer = name.substr(0, name.find(".mlp."));
    for (const std::string& part : original.names(layer + ".mlp.")) {
      std::string renamed = part;
      original.tensors[renamed.replace(layer.size(), 4, ".block_sparse_moe")] = original.take(part);
    }
  }
  for (const char* part : {"q", "k", "v"}) {
    original.rename(std::string(".") + part + "_conv.conv.weight", std::string(".") + part + "_conv1d.weight");
  }
  turn_convolutions(original);
  join_kv_b(original);
  ASSERT_FALSE(original.names(".block_sparse_moe.experts.0.w2.weight").empty());
  ASSERT_FALSE(original.names(".self_attn.kv_b_proj.weight").empty());
  expect_same(files, original);
}

TEST(ForeignLayouts, Gemma4Original) {
  const CheckpointFiles files = decoded("gemma4-affine4-gs32");
  CheckpointFiles original = files;
  for (const std::string& name : original.names(".switch_glu.gate_proj.weight")) {
    const std::string experts = name.substr(0, name.find(".switch_glu"));
    const Tensor gate = original.take(name);
    original.tensors[experts + ".gate_up_proj"] =
        joined_rows(gate, original.take(experts + ".switch_glu.up_proj.weight"), false);
    original.tensors[experts + ".down_proj"] = original.take(experts + ".switch_glu.down_proj.weight");
  }
  original.rename("language_model.model.", "model.language_model.");
  original.tensors["model.vision_tower.patch.weight"] = bf16_tensor({3}, {1, 2, 3});
  original.tensors["model.embed_vision.weight"] = bf16_tensor({3}, {1, 2, 3});
  expect_same(files, original);
}

/// Interleaved rows, biases beside them.
TEST(ForeignLayouts, GptOssFusedWithoutQuantization) {
  const CheckpointFiles files = decoded("gpt_oss-mxfp4-q8");
  CheckpointFiles original = files;
  for (const std::string& name : original.names(".experts.gate_proj.weight")) {
    const std::string experts = name.substr(0, name.find(".gate_proj"));
    const Tensor gate = original.take(name);
    original.tensors[experts + ".gate_up_proj"] = joined_rows(gate, original.take(experts + ".up_proj.weight"), true);
    const Tensor gate_bias = original.take(experts + ".gate_proj.bias");
    original.tensors[experts + ".gate_up_proj_bias"] =
        joined_rows(gate_bias, original.take(experts + ".up_proj.bias"), true);
    original.tensors[experts + ".down_proj"] = original.take(experts + ".down_proj.weight");
    original.tensors[experts + ".down_proj_bias"] = original.take(experts + ".down_proj.bias");
  }
  expect_same(files, original);
  // Transposed, as the publisher's own library keeps them.
  for (const std::string& name : original.names(".experts.gate_up_proj")) {
    std::vector<std::int64_t>& shape = original.tensors[name].shape;
    if (shape.size() == 3) std::swap(shape[1], shape[2]);
  }
  EXPECT_THAT([&] { run(original); },
              ThrowsMessage<Error>(AllOf(HasSubstr("model.layers.0.mlp.experts.gate_up_proj'"),
                                         HasSubstr("[6, 128, 192]"), HasSubstr("not supported"))));
}

// ---------------------------------------------------------------------------------------------------------------------
// FP8 with block scales

/// Stores a plain matrix [rows, cols] as E4M3 codes with a scale per 128 x 128; gives the bf16 values they stand for.
Tensor to_fp8(CheckpointFiles& files, const std::string& path, DType scale_type) {
  const Tensor weight = files.take(path + ".weight");
  const auto rows = static_cast<std::size_t>(weight.shape[0]);
  const auto cols = static_cast<std::size_t>(weight.shape[1]);
  const std::size_t row_blocks = (rows + 127) / 128;
  const std::size_t col_blocks = (cols + 127) / 128;
  const std::vector<float> w = floats_of(weight);
  std::vector<float> largest(row_blocks * col_blocks, 0);
  const auto block = [&](std::size_t i) { return i / cols / 128 * col_blocks + i % cols / 128; };
  for (std::size_t i = 0; i < w.size(); ++i) largest[block(i)] = std::max(largest[block(i)], std::abs(w[i]));
  for (float& x : largest) x = bf16_to_f32(f32_to_bf16(x / 400));
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(row_blocks), static_cast<std::int64_t>(col_blocks)};
  const Tensor scales = scale_type == DType::f32 ? f32_tensor(shape, largest) : bf16_tensor(shape, largest);
  // The values of all codes, by decoding them.
  const kernels::Format format{kernels::Mode::fp8_block, 8, 128, DType::f32};
  Tensor codes{DType::f8_e4m3, {2, 127}, ""};
  for (int code = 0; code < 254; ++code) codes.bytes += static_cast<char>(code < 127 ? code : code + 1);
  const std::vector<float> values = CheckpointFiles::decoded(format, 127, codes, f32_tensor({1, 1}, {1.0F}), Tensor());
  Tensor encoded{DType::f8_e4m3, weight.shape, std::string(w.size(), '\0')};
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto nearest = std::min_element(values.begin(), values.end(), [&](float a, float b) {
      return std::abs(a - w[i] / largest[block(i)]) < std::abs(b - w[i] / largest[block(i)]);
    });
    encoded.bytes[i] = codes.bytes[static_cast<std::size_t>(nearest - values.begin())];
  }
  files.tensors[path + ".weight"] = encoded;
  files.tensors[path + ".weight_scale_inv"] = scales;
  std::vector<float> exact(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto at = codes.bytes.find(encoded.bytes[i]);
    exact[i] = values[at] * largest[block(i)];
  }
  return bf16_tensor(weight.shape, exact);
}

/// Every projection of attention and experts in FP8, as their publishers have it; norms, router, embedding and head
/// not.
void expect_fp8_is_its_bf16(CheckpointFiles files, const std::map<std::string, std::string>& names, DType scale_type) {
  files.unstack("switch_mlp", "experts", names);
  CheckpointFiles original = files;
  for (const std::string& name : files.names("_proj.weight")) {
    files.tensors[name] = to_fp8(original, name.substr(0, name.size() - 7), scale_type);
  }
  for (const char* part : {".w1.weight", ".w2.weight", ".w3.weight"}) {
    for (const std::string& name : files.names(part)) {
      files.tensors[name] = to_fp8(original, name.substr(0, name.size() - 7), scale_type);
    }
  }
  ASSERT_FALSE(original.names(".experts.0.").empty());
  original.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  expect_same(files, original);
}

TEST(ForeignLayouts, MinimaxFp8) { expect_fp8_is_its_bf16(decoded("minimax-affine4-gs64"), kMixtralNames, DType::f32); }

/// Sizes of which none is a multiple of 128: 64, 72, 40.
TEST(ForeignLayouts, Fp8BlocksMayBeCutShort) {
  CheckpointFiles files = CheckpointFiles::read("qwen3_moe-hf-bf16");
  CheckpointFiles original = files;
  for (const std::string& name : files.names("_proj.weight")) {
    files.tensors[name] = to_fp8(original, name.substr(0, name.size() - 7), DType::bf16);
  }
  original.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  expect_same(files, original);
}

/// 192 is one block and a half; kv_b_proj is split after decoding.
TEST(ForeignLayouts, DeepseekFp8) {
  CheckpointFiles files = decoded("deepseek_v3-affine4-gs64");
  join_kv_b(files);
  expect_fp8_is_its_bf16(std::move(files), kSameNames, DType::f32);
}

// ---------------------------------------------------------------------------------------------------------------------
// compressed-tensors, as Kimi K2 Thinking and K2.5 ship their experts

/// Symmetric 4-bit codes for all experts: in `affine` as MLX would hold them, in `packed` one by one as published.
void pack_experts(CheckpointFiles& affine, CheckpointFiles& packed) {
  for (const std::string& name : affine.names(".switch_mlp.")) {
    const std::string path = name.substr(0, name.size() - 7);
    const Tensor weight = affine.take(name);
    const std::vector<float> w = floats_of(weight);
    std::vector<float> scales, biases;
    Tensor codes{DType::u32, weight.shape, std::string(w.size() / 2, '\0')};
    codes.shape.back() /= 8;
    for (std::size_t first = 0; first < w.size(); first += 32) {
      float largest = 0;
      for (std::size_t i = first; i < first + 32; ++i) largest = std::max(largest, std::abs(w[i]));
      scales.push_back(bf16_to_f32(f32_to_bf16(largest / 7)));
      biases.push_back(-8 * scales.back());
      for (std::size_t i = first; i < first + 32; ++i) {
        const int code = std::clamp(static_cast<int>(std::nearbyint(w[i] / scales.back())), -8, 7) + 8;
        codes.bytes[i / 2] = static_cast<char>(codes.bytes[i / 2] | code << (i % 2 * 4));
      }
    }
    std::vector<std::int64_t> groups = weight.shape;
    groups.back() /= 32;
    affine.tensors[path + ".weight"] = codes;
    affine.tensors[path + ".scales"] = bf16_tensor(groups, scales);
    affine.tensors[path + ".biases"] = bf16_tensor(groups, biases);
    packed.take(name);
    codes.dtype = DType::i32;
    packed.tensors[path + ".weight_packed"] = codes;
    packed.tensors[path + ".weight_scale"] = affine.tensors[path + ".scales"];
    Tensor shape{DType::i64, {weight.shape[0], 2}, ""};
    for (std::int64_t e = 0; e < weight.shape[0]; ++e) {
      shape.bytes.append(reinterpret_cast<const char*>(&weight.shape[1]), 16);
    }
    packed.tensors[path + ".weight_shape"] = shape;
  }
  affine.config["quantization"] = {{"group_size", 32}, {"bits", 4}, {"mode", "affine"}};
  packed.unstack("switch_mlp", "experts", kSameNames);
}

const json kCompressed = {{"quant_method", "compressed-tensors"},
                          {"format", "pack-quantized"},
                          {"ignore", {"lm_head", "re:.*self_attn.*"}},
                          {"config_groups",
                           {{"group_0",
                             {{"input_activations", nullptr},
                              {"targets", {"Linear"}},
                              {"weights",
                               {{"actorder", nullptr},
                                {"group_size", 32},
                                {"num_bits", 4},
                                {"strategy", "group"},
                                {"symmetric", true},
                                {"type", "int"}}}}}}}};

struct KimiInt4 {
  KimiInt4() {
    affine.config["model_type"] = packed.config["model_type"] = "kimi_k2";
    pack_experts(affine, packed);
    join_kv_b(packed);
    packed.config["quantization_config"] = kCompressed;
  }
  CheckpointFiles affine = decoded("deepseek_v3-affine4-gs64");
  CheckpointFiles packed = affine;
};

TEST(ForeignLayouts, KimiK2CompressedExperts) {
  const KimiInt4 kimi;
  expect_same(kimi.affine, kimi.packed);
}

TEST(ForeignLayouts, KimiK25WrapsTheTextModelAndSkipsTheTower) {
  const KimiInt4 kimi;
  CheckpointFiles wrapped = kimi.packed;
  wrapped.prefix("language_model.");
  wrapped.config = {{"model_type", "kimi_k25"}, {"text_config", kimi.packed.config}};
  EXPECT_THAT(run(wrapped).notices, testing::Each(testing::Not(HasSubstr("skipped"))));
  for (int i = 0; i < 3; ++i) {
    wrapped.tensors["vision_tower.blocks." + std::to_string(i) + ".weight"] = bf16_tensor({2}, {1, 2});
  }
  wrapped.tensors["mm_projector.proj.0.weight"] = bf16_tensor({2}, {1, 2});
  expect_same(kimi.affine, wrapped);
  const std::vector<std::string> notices = run(wrapped).notices;
  EXPECT_EQ(std::count_if(notices.begin(), notices.end(),
                          [](const std::string& notice) { return notice.find("4 tensors") != std::string::npos; }),
            1)
      << testing::PrintToString(notices);
}

}  // namespace
}  // namespace sluice::model
