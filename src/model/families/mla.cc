#include "model/families/mla.h"

#include <fmt/core.h>

#include <cmath>

#include "kernels/attention.h"
#include "model/families/common.h"

namespace sluice::model {

MlaSpec latent_attention(const Config& config, const std::string& module) {
  MlaSpec spec;
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.nope_dim = config.integer("qk_nope_head_dim", 1, kMaxWidth / kMaxHeads);
  spec.rope_dim = config.integer("qk_rope_head_dim", 2, kMaxWidth / kMaxHeads);
  spec.value_dim = config.integer("v_head_dim", 1, kMaxWidth / kMaxHeads);
  spec.latent_dim = config.integer("kv_lora_rank", 1, kernels::kMaxHeadDim - 2);
  spec.q_latent_dim = config.integer_or("q_lora_rank", 0, 1, kMaxWidth);
  if (spec.rope_dim % 2 != 0) config.refuse("qk_rope_head_dim", "an even number");
  if (spec.latent_dim + spec.rope_dim > kernels::kMaxHeadDim) {
    config.refuse("kv_lora_rank", fmt::format("at most {} with qk_rope_head_dim", kernels::kMaxHeadDim));
  }
  if (!config.boolean_or("rope_interleave", true)) config.refuse("rope_interleave", "true");
  spec.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.nope_dim + spec.rope_dim)));
  spec.norm_eps = 1e-6F;  // whatever rms_norm_eps says
  const bool bias = config.boolean_or("attention_bias", false);
  if (spec.q_latent_dim > 0) {
    spec.q_a = {module + ".q_a_proj", bias};
    spec.q_a_norm = {module + ".q_a_layernorm.weight"};
    spec.q = {module + ".q_b_proj"};
  } else {
    spec.q = {module + ".q_proj"};
  }
  spec.kv_a = {module + ".kv_a_proj_with_mqa", bias};
  spec.kv_a_norm = {module + ".kv_a_layernorm.weight"};
  spec.embed_q = module + ".embed_q";
  spec.unembed_out = module + ".unembed_out";
  spec.kv_b = module + ".kv_b_proj";
  spec.o = {module + ".o_proj", bias};
  return spec;
}

void set_rope(const RotaryKeys& keys, MlaSpec& spec) {
  if (!keys.scaling) {
    spec.rope = plain_rope(spec.rope_dim, keys.base, kernels::RopePairs::adjacent);
    return;
  }
  spec.rope = scaled_rope(*keys.scaling, spec.rope_dim, keys.base, kernels::RopePairs::adjacent);
  const double weight = keys.scaling->number_or("mscale_all_dim", 0, 0, 1e3);
  const double factor = keys.scaling->number_or("factor", 1, 1e-3, 1e6);
  if (weight == 0 || factor <= 1) return;
  const double stretch = 0.1 * weight * std::log(factor) + 1;
  spec.scale = static_cast<float>(spec.scale * stretch * stretch);
}

OperationSpec deepseek_feed_forward(const Config& config, int layer, const std::string& name) {
  const std::string module = name + ".mlp";
  const int experts = config.integer_or("n_routed_experts", 0, 0, kMaxExperts);
  const int dense_layers = config.integer_or("first_k_dense_replace", 0, 0, kMaxLayers);
  if (experts == 0 || layer < dense_layers || layer % config.integer_or("moe_layer_freq", 1, 1, kMaxLayers) != 0) {
    return swiglu_mlp(module, config.integer("intermediate_size", 1, kMaxWidth));
  }
  if (config.string_or("scoring_func", "sigmoid") != "sigmoid") config.refuse("scoring_func", "\"sigmoid\"");
  if (config.string_or("topk_method", "noaux_tc") != "noaux_tc") config.refuse("topk_method", "\"noaux_tc\"");
  MoeSpec spec;
  spec.experts = experts;
  spec.top_k = config.integer("num_experts_per_tok", 1, experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.router =
      corrected_sigmoid_router(config, module + ".gate", module + ".gate.e_score_correction_bias", experts, spec.top_k);
  spec.names = switch_mlp_names(module);
  if (const int shared = config.integer_or("n_shared_experts", 0, 0, 64); shared > 0) {
    spec.shared = swiglu_mlp(module + ".shared_experts", spec.width * shared);
  }
  return spec;
}

void note_layer_types(const Config& config, ModelSpec& spec) {
  const std::vector<std::string> types = config.strings("mlp_layer_types");
  if (types.empty()) return;
  for (const BlockSpec& block : spec.blocks) {
    const auto layer = static_cast<std::size_t>(block.layer);
    const bool is_moe = std::holds_alternative<MoeSpec>(block.operation);
    if (!is_moe && !std::holds_alternative<MlpSpec>(block.operation)) continue;
    if (layer >= types.size() || types[layer] != (is_moe ? "sparse" : "dense")) {
      note_ignored(config, "mlp_layer_types", spec);
    }
  }
}

}  // namespace sluice::model
