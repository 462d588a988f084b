// The planned tensors of every family against the headers of small checkpoints that the MLX converter wrote: names,
// dtypes, packed shapes, and which modules are exceptions. tests/data/synth/NAME.json has config and header of each,
// layer numbers collapsed to '#'.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "model/json_file.h"
#include "model/synth/checkpoint_plan.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

using Tensors = std::map<std::string, std::pair<std::string, std::vector<std::int64_t>>>;

struct Reference {
  json config;
  Tensors tensors;
  DType float_type = DType::bf16;
};

/// The older way to write the pattern of nemotron_h.
void spell_pattern(json& config) {
  if (!config.contains("layers_block_type")) return;
  std::string pattern;
  for (const json& type : config["layers_block_type"]) {
    pattern += type == "mamba" ? 'M' : type == "moe" ? 'E' : '*';
  }
  config["hybrid_override_pattern"] = pattern;
}

Reference load(const std::string& name) {
  const json document =
      parse_json_file(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/synth" / (name + ".json"));
  Reference reference{document.at("config"), {}};
  spell_pattern(reference.config);
  for (const json& row : document.at("tensors")) {
    const std::pair<std::string, std::vector<std::int64_t>> type{row[1], row[2]};
    if (type.first == "F16") reference.float_type = DType::f16;
    const std::string pattern = row[0];
    if (row.size() == 3) {
      reference.tensors[pattern] = type;
      continue;
    }
    for (const json& layer : row[3]) {
      std::string tensor = pattern;
      reference.tensors[tensor.replace(pattern.find('#'), 1, std::to_string(layer.get<int>()))] = type;
    }
  }
  return reference;
}

Tensors planned(const Reference& reference) {
  Tensors tensors;
  for (const PlannedTensor& tensor : plan_tensors(reference.config, reference.float_type)) {
    const auto& header = tensor.header;
    const bool is_new =
        tensors.emplace(header.name, std::pair{std::string(name_of(header.dtype)), header.shape}).second;
    EXPECT_TRUE(is_new) << header.name << " twice";
  }
  return tensors;
}

class SynthTensors : public ::testing::TestWithParam<const char*> {};

TEST_P(SynthTensors, AreThoseTheConverterWrites) {
  const Reference reference = load(GetParam());
  ASSERT_GT(reference.tensors.size(), 50U);
  const Tensors ours = planned(reference);
  for (const auto& [name, type] : reference.tensors) {
    const auto found = ours.find(name);
    if (found == ours.end()) {
      ADD_FAILURE() << name << " is missing";
    } else {
      EXPECT_EQ(found->second, type) << name;
    }
  }
  for (const auto& [name, type] : ours) EXPECT_EQ(reference.tensors.count(name), 1U) << name << " is too much";
}

TEST_P(SynthTensors, ExceptionsAreThoseOfTheConverter) {
  const Reference reference = load(GetParam());
  const json& quantization = reference.config.at("quantization");
  const std::string mode = quantization.at("mode");
  kernels::Format top{kernels::Mode::affine, quantization.at("bits").get<std::uint8_t>(),
                      quantization.at("group_size").get<std::uint16_t>(), DType::bf16};
  if (mode == "mxfp4") top.mode = kernels::Mode::mxfp4;
  if (mode == "mxfp8") top.mode = kernels::Mode::mxfp8;
  if (mode == "nvfp4") top.mode = kernels::Mode::nvfp4;
  EXPECT_EQ(quantization_object(reference.config, top).dump(1), quantization.dump(1));
}

INSTANTIATE_TEST_SUITE_P(Reference, SynthTensors,
                         ::testing::Values("qwen3_moe-affine4-gs64", "qwen3_moe-nvfp4", "qwen3_moe-mxfp8",
                                           "qwen3_5_moe-affine4-gs64", "olmoe-affine4-gs64", "nemotron_h-affine4-gs64",
                                           "nemotron_h_plain-nvfp4", "gpt_oss-mxfp4-q8", "gpt_oss-affine4-gs32",
                                           "deepseek_v3-affine4-gs64", "glm_moe_dsa-indexshare-affine4-gs32"));

}  // namespace
}  // namespace sluice::model::synth
