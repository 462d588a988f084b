#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "model/json_file.h"
#include "model/synth/checkpoint_plan.h"
#include "model/synth/family.h"
#include "model/synth/layer_choice.h"
#include "model/synth/shapes.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CheckpointPlan plan(const std::string& like, std::optional<int> layers = std::nullopt) {
  SynthOptions options;
  options.like = like;
  options.layers = layers;
  return plan_checkpoint(options);
}

json config_of(const CheckpointPlan& checkpoint) { return parse_json(checkpoint.config, "config.json"); }

std::string usage_error(const SynthOptions& options) {
  try {
    plan_checkpoint(options);
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

/// Weights of a model, as its publisher counts them. With 8 bits in groups of 32 a word is four weights.
double weights_of(const ModelShape& shape) {
  json config = parse_json(shape.config, shape.name);
  config["quantization"] = quantization_object(config, {kernels::Mode::affine, 8, 32, DType::bf16});
  double weights = 0;
  for (const PlannedTensor& tensor : plan_tensors(config, DType::bf16)) {
    const stream::TensorHeader& header = tensor.header;
    if (header.name.ends_with(".scales") || header.name.ends_with(".biases")) continue;
    const double elements =
        static_cast<double>(stream::data_bytes(header)) / static_cast<double>(size_of(header.dtype));
    weights += header.dtype == DType::u32 ? 4 * elements : elements;
  }
  return weights;
}

TEST(SynthShapes, HaveThePublishedNumberOfWeights) {
  // In 1e9, from the model cards. Vision parts and heads for several tokens, which are left out here, are not counted
  // in these numbers, but in Qwen3.5's (under 1e9 each).
  const std::map<std::string, double> published{{"qwen3-30b-a3b", 30.5},
                                                {"qwen3.5-35b-a3b", 35},
                                                {"qwen3.5-122b-a10b", 122},
                                                {"nemotron-3-nano-30b", 31.6},
                                                {"nemotron-3-super-120b", 120.6},
                                                {"glm-5.2", 744},
                                                {"gpt-oss-120b", 116.8},
                                                {"deepseek-v3", 671},
                                                {"olmoe", 6.9}};
  ASSERT_EQ(model_shapes().size(), published.size());
  for (const ModelShape& shape : model_shapes()) {
    const double expected = published.at(std::string(shape.name));
    EXPECT_NEAR(weights_of(shape) / 1e9 / expected, 1, 0.02) << shape.name << ": " << weights_of(shape) / 1e9;
  }
}

class SynthModels : public ::testing::TestWithParam<ModelShape> {};

TEST_P(SynthModels, FitTheFormatAndTheFileLimit) {
  const CheckpointPlan checkpoint = plan(std::string(GetParam().name));
  ASSERT_GT(checkpoint.files.size(), 0U);
  const json index = parse_json(checkpoint.index, "index");
  std::uint64_t data = 0;
  for (const PlannedFile& file : checkpoint.files) {
    EXPECT_LE(file.bytes, 5 * kGiB + kMiB) << file.name;
    for (const PlannedTensor& tensor : file.tensors) {
      data += stream::data_bytes(tensor.header);
      EXPECT_EQ(index["weight_map"].at(tensor.header.name), file.name);
    }
  }
  EXPECT_EQ(index["weight_map"].size(), checkpoint.tensor_count());
  EXPECT_EQ(index["metadata"]["total_size"], data);
  EXPECT_GT(checkpoint.bytes(), data);
}

TEST_P(SynthModels, FewestLayersHoldEveryKind) {
  const json whole = parse_json(GetParam().config, GetParam().name);
  const Family& family = family_of(whole.at("model_type").get<std::string>());
  const auto kinds_of = [&](const json& config) {
    std::set<std::string> kinds;
    for (const LayerKinds& layer : family.layers(config)) kinds.insert(layer.begin(), layer.end());
    return kinds;
  };
  SynthOptions options;
  options.like = GetParam().name;
  int fewest = 0;  // what the message asks for, if one layer is too few
  options.layers = 1;
  try {
    plan_checkpoint(options);
    fewest = 1;
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, AllOf(HasSubstr("--layers: 1"), HasSubstr(options.like)));
    fewest = std::stoi(message.substr(message.rfind("expected ") + 9));
    EXPECT_GT(fewest, 1);
  }
  for (int layers = fewest; layers < fewest + 4; ++layers) {
    const json config = config_of(plan(options.like, layers));
    EXPECT_EQ(family.layers(config).size(), static_cast<std::size_t>(layers));
    EXPECT_EQ(kinds_of(config), kinds_of(whole)) << layers << " layers";
  }
}

TEST_P(SynthModels, TensorsOfAFileAreScattered) {
  const CheckpointPlan checkpoint = plan(std::string(GetParam().name), 5);
  std::size_t neighbours = 0, parts = 0;
  for (const PlannedFile& file : checkpoint.files) {
    for (std::size_t i = 1; i < file.tensors.size(); ++i) {
      const auto module = [&](std::size_t t) {
        const std::string& name = file.tensors[t].header.name;
        return name.substr(0, name.rfind('.'));
      };
      neighbours += module(i - 1) == module(i) ? 1 : 0;
    }
    parts += file.tensors.size();
  }
  EXPECT_LT(neighbours, parts / 8) << "weights, scales and biases of a module lie apart";
}

INSTANTIATE_TEST_SUITE_P(All, SynthModels, ::testing::ValuesIn(model_shapes().begin(), model_shapes().end()),
                         [](const auto& test) {
                           std::string name(test.param.name);
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

TEST(SynthPlan, SizesAreThoseOfThePublishedConversions) {
  // mlx-community/Qwen3-30B-A3B-4bit takes about 17 GB on the hub, mlx-community/gpt-oss-120b-MXFP4-Q8 about 63.
  EXPECT_NEAR(static_cast<double>(plan("qwen3-30b-a3b").bytes()) / 1e9, 17, 0.5);
  EXPECT_NEAR(static_cast<double>(plan("gpt-oss-120b").bytes()) / 1e9, 63, 1);
}

TEST(SynthPlan, InfinityIsWrittenAsPythonDoes) {
  const std::string config = plan("nemotron-3-nano-30b", 3).config;
  EXPECT_THAT(config, AllOf(HasSubstr(" Infinity\n"), ::testing::Not(HasSubstr("null"))));
  EXPECT_TRUE(std::isinf(parse_json(config, "config.json")["time_step_limit"][1].get<double>()));
}

TEST(SynthPlan, DensePrefixIsCutToOne) {
  const json config = config_of(plan("deepseek-v3", 4));
  EXPECT_EQ(config["first_k_dense_replace"], 1);
  EXPECT_EQ(config["num_hidden_layers"], 4);
  EXPECT_EQ(config_of(plan("deepseek-v3"))["first_k_dense_replace"], 3);
  EXPECT_EQ(config_of(plan("deepseek-v3", 60))["first_k_dense_replace"], 2) << "no other layer is left to keep";
}

TEST(SynthPlan, FewLayersOfAHybridKeepItsRule) {
  const json two = config_of(plan("qwen3.5-35b-a3b", 2))["text_config"];
  EXPECT_EQ(two["full_attention_interval"], 2);
  EXPECT_EQ(two["layer_types"], json({"linear_attention", "full_attention"}));
  EXPECT_EQ(config_of(plan("qwen3.5-35b-a3b", 9))["text_config"]["full_attention_interval"], 4);
  EXPECT_EQ(config_of(plan("nemotron-3-nano-30b", 4))["hybrid_override_pattern"], "MEM*");
  EXPECT_EQ(config_of(plan("glm-5.2", 3))["indexer_types"], json({"full", "shared", "shared"}));
}

TEST(SynthPlan, QuantizationFollowsTheFlags) {
  SynthOptions options;
  options.like = "qwen3-30b-a3b";
  options.layers = 1;
  options.mode = kernels::Mode::nvfp4;
  const json quantization = config_of(plan_checkpoint(options))["quantization"];
  EXPECT_EQ(quantization["mode"], "nvfp4");
  EXPECT_EQ(quantization["group_size"], 16);
  EXPECT_EQ(quantization["model.layers.0.mlp.gate"]["bits"], 8);
  options = {};
  options.like = "gpt-oss-120b";
  options.layers = 2;
  EXPECT_EQ(config_of(plan_checkpoint(options))["quantization"]["mode"], "mxfp4");
  options.bits = 6;
  EXPECT_EQ(config_of(plan_checkpoint(options))["quantization"]["mode"], "affine");
  EXPECT_EQ(config_of(plan_checkpoint(options))["quantization"]["bits"], 6);
}

TEST(SynthPlan, OptionsThatDoNotFitAreNamed) {
  SynthOptions options;
  options.like = "qwen3-30b-a4b";
  EXPECT_THAT(usage_error(options), AllOf(HasSubstr("--like"), HasSubstr("did you mean qwen3-30b-a3b?")));
  options.like = "olmoe";
  options.layers = 17;
  EXPECT_THAT(usage_error(options), AllOf(HasSubstr("--layers: 17"), HasSubstr("16")));
  options.layers = 1;
  options.bits = 7;
  EXPECT_THAT(usage_error(options), AllOf(HasSubstr("--bits"), HasSubstr("7 bits")));
  options.bits = 4;
  options.mode = kernels::Mode::mxfp8;
  EXPECT_THAT(usage_error(options), HasSubstr("mxfp8 with 4 bits"));
  options = {};
  options.like = "gpt-oss-120b";
  options.group_size = 128;
  EXPECT_THAT(usage_error(options), AllOf(HasSubstr("--group-size: 128"), HasSubstr("2880")));
}

TEST(SynthPlan, FilesHoldWholeTensorsInModuleOrder) {
  std::vector<PlannedTensor> tensors;
  for (const char* name : {"a", "b", "c", "d", "e"}) tensors.push_back({{name, DType::u8, {40}}, {}, name});
  tensors[2].header.shape = {101};
  const std::vector<PlannedFile> files = split_into_files(tensors, 100);
  std::vector<std::set<std::string>> names;
  for (const PlannedFile& file : files) {
    names.emplace_back();
    for (const PlannedTensor& tensor : file.tensors) names.back().insert(tensor.header.name);
  }
  EXPECT_THAT(
      names, ElementsAre(std::set<std::string>{"a", "b"}, std::set<std::string>{"c"}, std::set<std::string>{"d", "e"}));
  EXPECT_EQ(files[0].name, "model-00001-of-00003.safetensors");
  EXPECT_EQ(split_into_files({tensors[0]}, 100)[0].name, "model.safetensors");
}

TEST(LayerChoice, TakesTheFirstOfEveryKindThenTheFirst) {
  const std::vector<LayerKinds> layers{{"a"}, {"b"}, {"a"}, {"b"}, {"a"}, {"c"}, {"a"}};
  EXPECT_THAT(choose_layers(layers, 3, "m"), ElementsAre(0, 1, 5));
  EXPECT_THAT(choose_layers(layers, 5, "m"), ElementsAre(0, 1, 2, 3, 5));
  EXPECT_THAT(choose_layers(layers, 7, "m"), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THROW(choose_layers(layers, 2, "m"), UsageError);
  EXPECT_THROW(choose_layers(layers, 8, "m"), UsageError);
}

TEST(LayerChoice, DenseLayersAtTheStartAreTheLastToBeKept) {
  const std::vector<LayerKinds> layers{{"dense"}, {"dense"}, {"dense"}, {"moe"}, {"moe"}};
  EXPECT_THAT(choose_layers(layers, 3, "m"), ElementsAre(0, 3, 4));
  EXPECT_THAT(choose_layers(layers, 4, "m"), ElementsAre(0, 1, 3, 4));
}

}  // namespace
}  // namespace sluice::model::synth
