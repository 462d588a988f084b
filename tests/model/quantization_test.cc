// What config.json says of formats, by the rules of the MLX loader; other publishers' methods by value.
#include "model/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace sluice::model {
namespace {

using kernels::Format;
using kernels::Mode;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

Quantization from(const json& config) { return Quantization::from_config(Config::parse(config.dump(), "config.json")); }

TEST(Quantization, OverridesDecideThenScalesThenNothing) {
  const Quantization q = from({{"quantization",
                                {{"group_size", 16},
                                 {"bits", 4},
                                 {"mode", "nvfp4"},
                                 {"a", {{"group_size", 64}, {"bits", 8}}},
                                 {"b", false},
                                 {"c", true},
                                 {"d", {{"mode", "mxfp8"}}},
                                 {"e", json::object()}}}});
  EXPECT_EQ(q.format("other", true), (Format{Mode::nvfp4, 4, 16, DType::u8}));
  EXPECT_EQ(q.format("other", false), std::nullopt);
  EXPECT_EQ(q.format("a", false), (Format{Mode::affine, 8, 64, DType::bf16}));  // no mode: affine
  EXPECT_EQ(q.format("b", true), std::nullopt);
  EXPECT_EQ(q.format("c", false), (Format{Mode::nvfp4, 4, 16, DType::u8}));
  EXPECT_EQ(q.format("d", true), (Format{Mode::mxfp8, 8, 32, DType::u8}));
  EXPECT_EQ(q.format("e", true), (Format{Mode::affine, 4, 64, DType::bf16}));
}

TEST(Quantization, LeftOutNumbersAreThoseOfTheMode) {
  const auto top = [](const char* mode) { return from({{"quantization", {{"mode", mode}}}}).format("x", true); };
  EXPECT_EQ(top("affine"), (Format{Mode::affine, 4, 64, DType::bf16}));
  EXPECT_EQ(top("mxfp4"), (Format{Mode::mxfp4, 4, 32, DType::u8}));
  EXPECT_EQ(top("nvfp4"), (Format{Mode::nvfp4, 4, 16, DType::u8}));
  EXPECT_EQ(top("mxfp8"), (Format{Mode::mxfp8, 8, 32, DType::u8}));
}

TEST(Quantization, QuantizationConfigIsTheSameUnderAnotherNameAndNested) {
  const json values = {{"group_size", 32}, {"bits", 3}};
  const Format expected{Mode::affine, 3, 32, DType::bf16};
  EXPECT_EQ(from({{"quantization_config", values}}).format("x", true), expected);
  EXPECT_EQ(from({{"text_config", {{"quantization_config", values}}}}).format("x", true), expected);
  // "quantization" comes first.
  EXPECT_EQ(from({{"quantization", values}, {"quantization_config", {{"quant_method", "awq"}}}}).format("x", true),
            expected);
}

TEST(Quantization, ScalesWithoutAWordInTheConfigAreAnError) {
  EXPECT_THAT([] { (void)from(json::object()).format("model.x", true); },
              ThrowsMessage<Error>(AllOf(HasSubstr("config.json"), HasSubstr("model.x.scales"))));
  EXPECT_EQ(from(json::object()).format("model.x", false), std::nullopt);
}

TEST(Quantization, IllegalValuesAreNamed) {
  const auto refused = [](const json& values, const char* what) {
    EXPECT_THAT(
        [&] {
          from({{"quantization", values}});
        },
        ThrowsMessage<Error>(AllOf(HasSubstr("'quantization'"), HasSubstr(what))));
  };
  refused({{"bits", 7}}, "7 bits");
  refused({{"bits", 1000}}, "1000");
  refused({{"bits", "4"}}, "\"4\"");
  refused({{"group_size", 48}}, "48");
  refused({{"mode", "int3"}}, "'int3'");
  refused({{"mode", 3}}, "'mode'");
  refused({{"mode", "nvfp4"}, {"group_size", 32}}, "nvfp4");
  refused({{"bits", 4}, {"model.x", {{"bits", 9}}}}, "model.x");
  refused({{"bits", 4}, {"quantize_activations", true}}, "quantize_activations");
}

json compressed(const char* key, const json& value) {
  json weights = {{"num_bits", 4}, {"group_size", 32}, {"symmetric", true}, {"type", "int"}, {"actorder", nullptr}};
  if (key != nullptr) weights[key] = value;
  return {{"quant_method", "compressed-tensors"}, {"config_groups", {{"group_0", {{"weights", weights}}}}}};
}

TEST(Quantization, CompressedTensorsAreAcceptedByValue) {
  EXPECT_NO_THROW(from({{"quantization_config", compressed(nullptr, nullptr)}}));
  EXPECT_NO_THROW(from({{"text_config", {{"quantization_config", compressed(nullptr, nullptr)}}}}));
  const std::vector<std::pair<const char*, json>> wrong{{"num_bits", 8},       {"group_size", 128},
                                                        {"symmetric", false},  {"type", "float"},
                                                        {"actorder", "group"}, {"num_bits", nullptr}};
  for (const auto& entry : wrong) {
    const auto read = [&] { from({{"quantization_config", compressed(entry.first, entry.second)}}); };
    EXPECT_THAT(read, ThrowsMessage<Error>(AllOf(HasSubstr("config.json"), HasSubstr("'" + std::string(entry.first)),
                                                 HasSubstr(entry.second.dump()), HasSubstr("convert the model"))));
  }
  EXPECT_THAT(
      [] {
        from({{"quantization_config", {{"quant_method", "compressed-tensors"}}}});
      },
      ThrowsMessage<Error>(HasSubstr("compressed weights")));
}

TEST(Quantization, OtherMethods) {
  EXPECT_NO_THROW(from({{"quantization_config", {{"quant_method", "mxfp4"}}}}));
  EXPECT_NO_THROW(from({{"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}}}));
  EXPECT_THAT(
      [] {
        from({{"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {64, 128}}}}});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("weight_block_size"), HasSubstr("[64,128]"))));
  for (const char* method : {"awq", "gptq", "modelopt", "bitsandbytes"}) {
    EXPECT_THAT(
        [&] {
          from({{"quantization_config", {{"quant_method", method}, {"bits", 4}}}});
        },
        ThrowsMessage<Error>(AllOf(HasSubstr("quant_method"), HasSubstr(method))));
  }
}

}  // namespace
}  // namespace sluice::model
