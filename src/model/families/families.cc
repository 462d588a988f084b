#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "model/families/family.h"

namespace sluice::model {

ModelSpec deepseek_v3_spec(const Config& config, const TensorLookup& tensors);
ModelSpec deepseek_v32_spec(const Config& config, const TensorLookup& tensors);
ModelSpec gemma4_spec(const Config& config, const TensorLookup& tensors);
ModelSpec glm4_moe_spec(const Config& config, const TensorLookup& tensors);
ModelSpec glm_moe_dsa_spec(const Config& config, const TensorLookup& tensors);
ModelSpec gpt_oss_spec(const Config& config, const TensorLookup& tensors);
ModelSpec kimi_k25_spec(const Config& config, const TensorLookup& tensors);
ModelSpec kimi_linear_spec(const Config& config, const TensorLookup& tensors);
ModelSpec minimax_spec(const Config& config, const TensorLookup& tensors);
ModelSpec mixtral_spec(const Config& config, const TensorLookup& tensors);
ModelSpec nemotron_h_spec(const Config& config, const TensorLookup& tensors);
ModelSpec olmoe_spec(const Config& config, const TensorLookup& tensors);
ModelSpec qwen3_spec(const Config& config, const TensorLookup& tensors);
ModelSpec qwen3_moe_spec(const Config& config, const TensorLookup& tensors);
ModelSpec qwen3_5_spec(const Config& config, const TensorLookup& tensors);
ModelSpec qwen3_next_spec(const Config& config, const TensorLookup& tensors);

namespace {

constexpr Family kFamilies[] = {
    {"deepseek_v3", deepseek_v3_spec},
    {"deepseek_v32", deepseek_v32_spec},
    {"gemma4", gemma4_spec},
    {"glm4_moe", glm4_moe_spec},
    {"glm_moe_dsa", glm_moe_dsa_spec},
    {"gpt_oss", gpt_oss_spec},
    {"joyai_llm_flash", deepseek_v3_spec},
    {"kimi_k2", deepseek_v3_spec},
    {"kimi_k25", kimi_k25_spec},
    {"kimi_linear", kimi_linear_spec},
    {"minimax", minimax_spec},
    {"minimax_m2", minimax_spec},
    {"mixtral", mixtral_spec},
    {"nemotron_h", nemotron_h_spec},
    {"olmoe", olmoe_spec},
    {"qwen3", qwen3_spec},
    {"qwen3_5", qwen3_5_spec},
    {"qwen3_5_moe", qwen3_5_spec},
    {"qwen3_moe", qwen3_moe_spec},
    {"qwen3_next", qwen3_next_spec},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

ModelSpec build_spec(const Config& config, const TensorLookup& tensors) {
  const std::string model_type = config.string("model_type");
  std::vector<std::string_view> known;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return family.build(config, tensors);
    known.push_back(family.model_type);
  }
  fail(
      "{}: model_type '{}' is not supported; the nearest known one is '{}' (known: {}). To add a family see "
      "docs/adding-a-model.md",
      config.file(), printable(model_type), nearest(model_type, known), fmt::join(known, ", "));
}

}  // namespace sluice::model
