// Mixtral.
#include <fmt/core.h>

#include "model/families/common.h"

namespace sluice::model {

ModelSpec mixtral_spec(const Config& config, const TensorLookup&) {
  require_silu(config);
  if (config.has("sliding_window")) config.refuse("sliding_window", "null");
  ModelSpec spec = backbone(config);
  const RotaryKeys rotary = rotary_keys(config, 1e6);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const std::string module = name + ".block_sparse_moe";
    AttentionSpec mixer = grouped_attention(config, name + ".self_attn");
    mixer.rope = unscaled_rope(config, rotary, mixer.head_dim, spec);
    MoeSpec moe;
    moe.experts = config.integer_or("num_local_experts", 8, 1, kMaxExperts);
    moe.top_k = config.integer_or("num_experts_per_tok", 2, 1, moe.experts);
    moe.width = config.integer("intermediate_size", 1, kMaxWidth);
    moe.router.linear = {module + ".gate"};
    moe.router.scoring = RouterScoring::softmax_chosen;
    moe.router.ties = kernels::TieRule::lower_index;
    moe.names = block_sparse_names(module);
    add_decoder_layer(spec, l, name, std::move(mixer), std::move(moe));
  }
  return spec;
}

}  // namespace sluice::model
