// Qwen3, dense and MoE.
#include <fmt/core.h>

#include <algorithm>

#include "model/families/common.h"

namespace sluice::model {
namespace {

/// Refuses what would change the numbers and is not computed here.
void refuse_unsupported(const Config& config) {
  require_silu(config);
  if (config.boolean_or("attention_bias", false)) config.refuse("attention_bias", "false");
  if (config.boolean_or("use_sliding_window", false)) config.refuse("use_sliding_window", "false");
  require_layers(config, "layer_types", "full_attention");
}

AttentionSpec attention(const Config& config, const std::string& module) {
  AttentionSpec spec = grouped_attention(config, module);
  spec.qk_norm = QkNorm::head;
  spec.q_norm = {module + ".q_norm.weight"};
  spec.k_norm = {module + ".k_norm.weight"};
  return spec;
}

MoeSpec moe(const Config& config, const std::string& module) {
  MoeSpec spec;
  spec.experts = config.integer("num_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_tok", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.router.linear = {module + ".gate"};
  spec.router.normalize = config.boolean_or("norm_topk_prob", false);
  spec.names = switch_mlp_names(module);
  return spec;
}

}  // namespace

ModelSpec qwen3_spec(const Config& config, const TensorLookup&) {
  refuse_unsupported(config);
  ModelSpec spec = backbone(config);
  const RotaryKeys rotary = rotary_keys(config, std::nullopt);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    AttentionSpec mixer = attention(config, name + ".self_attn");
    mixer.rope = rope(config, rotary, mixer.head_dim);
    add_decoder_layer(spec, l, name, std::move(mixer),
                      swiglu_mlp(name + ".mlp", config.integer("intermediate_size", 1, kMaxWidth)));
  }
  return spec;
}

ModelSpec qwen3_moe_spec(const Config& config, const TensorLookup&) {
  refuse_unsupported(config);
  ModelSpec spec = backbone(config);
  const RotaryKeys rotary = rotary_keys(config, std::nullopt);
  const std::vector<int> dense_layers = config.integers("mlp_only_layers");
  const int sparse_step = config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    AttentionSpec mixer = attention(config, name + ".self_attn");
    mixer.rope = unscaled_rope(config, rotary, mixer.head_dim, spec);
    const bool dense = std::find(dense_layers.begin(), dense_layers.end(), l) != dense_layers.end();
    if (!dense && (l + 1) % sparse_step == 0) {
      add_decoder_layer(spec, l, name, std::move(mixer), moe(config, name + ".mlp"));
    } else {
      add_decoder_layer(spec, l, name, std::move(mixer),
                        swiglu_mlp(name + ".mlp", config.integer("intermediate_size", 1, kMaxWidth)));
    }
  }
  return spec;
}

}  // namespace sluice::model
