// MiniMax-M2.
#include <fmt/core.h>

#include "model/families/common.h"

namespace sluice::model {

ModelSpec minimax_spec(const Config& config, const TensorLookup&) {
  require_silu(config);
  if (config.string_or("scoring_func", "sigmoid") != "sigmoid") config.refuse("scoring_func", "\"sigmoid\"");
  // MiniMax-Text-01 has the same model_type and layers of linear attention.
  require_layers(config, "layer_types", "full_attention");
  for (const int type : config.integers("attn_type_list")) {
    if (type != 1) config.refuse("attn_type_list", "1 (full attention) for every layer");
  }
  if (config.string_or("qk_norm_type", "per_layer") != "per_layer") config.refuse("qk_norm_type", "\"per_layer\"");
  if (!config.boolean_or("use_routing_bias", true)) config.refuse("use_routing_bias", "true");
  if (config.integer_or("shared_intermediate_size", 0, 0, kMaxWidth) != 0) {
    config.refuse("shared_intermediate_size", "0");
  }
  if (config.boolean_or("attention_bias", false)) config.refuse("attention_bias", "false");
  if (config.has("sliding_window")) config.refuse("sliding_window", "null");
  ModelSpec spec = backbone(config);
  RotaryKeys rotary = rotary_keys(config, 10000);
  if (config.has("rotary_dim")) rotary.fraction = 1;  // of rotary_dim
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const std::string attention = name + ".self_attn";
    const std::string module = name + ".block_sparse_moe";
    AttentionSpec mixer = grouped_attention(config, attention);
    if (config.boolean_or("use_qk_norm", true)) {
      mixer.qk_norm = QkNorm::all_heads;
      mixer.q_norm = {attention + ".q_norm.weight"};
      mixer.k_norm = {attention + ".k_norm.weight"};
    }
    const int rotated = config.integer_or("rotary_dim", mixer.head_dim, 2, mixer.head_dim);
    if (rotated % 2 != 0) config.refuse("rotary_dim", "an even number");
    mixer.rope = unscaled_rope(config, rotary, rotated, spec);
    MoeSpec moe;
    moe.experts = config.integer("num_local_experts", 1, kMaxExperts);
    moe.top_k = config.integer("num_experts_per_tok", 1, moe.experts);
    moe.width = config.integer("intermediate_size", 1, kMaxWidth);
    moe.router.linear = {module + ".gate"};
    moe.router.scoring = RouterScoring::sigmoid;
    moe.router.correction = module + ".e_score_correction_bias";
    moe.router.normalize = true;
    moe.router.normalize_eps = 1e-20F;
    moe.router.ties = kernels::TieRule::lower_index;
    moe.names = block_sparse_names(module);
    add_decoder_layer(spec, l, name, std::move(mixer), std::move(moe));
  }
  return spec;
}

}  // namespace sluice::model
