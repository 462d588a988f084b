// OLMoE: norms of queries and keys over all heads together.
#include <fmt/core.h>

#include "model/families/common.h"

namespace sluice::model {

ModelSpec olmoe_spec(const Config& config, const TensorLookup&) {
  require_silu(config);
  ModelSpec spec = backbone(config, "", true);
  const RotaryKeys rotary = rotary_keys(config, 10000);
  const bool bias = config.boolean_or("attention_bias", false);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const std::string module = name + ".self_attn";
    AttentionSpec mixer = grouped_attention(config, module);
    for (LinearSpec* linear : {&mixer.q, &mixer.k, &mixer.v, &mixer.o}) linear->bias = bias;
    mixer.qk_norm = QkNorm::all_heads;
    mixer.q_norm = {module + ".q_norm.weight"};
    mixer.k_norm = {module + ".k_norm.weight"};
    mixer.rope = rope(config, rotary, mixer.head_dim);
    MoeSpec moe;
    moe.experts = config.integer("num_experts", 1, kMaxExperts);
    moe.top_k = config.integer("num_experts_per_tok", 1, moe.experts);
    moe.width = config.integer("intermediate_size", 1, kMaxWidth);
    moe.router.linear = {name + ".mlp.gate"};
    moe.router.normalize = config.boolean_or("norm_topk_prob", false);
    moe.router.ties = kernels::TieRule::lower_index;
    moe.names = switch_mlp_names(name + ".mlp");
    add_decoder_layer(spec, l, name, std::move(mixer), std::move(moe));
  }
  if (config.has("clip_qkv")) note_ignored(config, "clip_qkv", spec);
  return spec;
}

}  // namespace sluice::model
