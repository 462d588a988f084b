// DeepSeek-V3.2 and GLM-5: latent attention over the positions that an indexer chooses.
#include <fmt/core.h>

#include "kernels/attention.h"
#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {
namespace {

IndexerSpec indexer(const Config& config, const std::string& module, bool interleaved_default) {
  IndexerSpec spec;
  spec.heads = config.integer("index_n_heads", 1, kMaxHeads);
  spec.head_dim = config.integer("index_head_dim", 1, kernels::kMaxHeadDim);
  spec.top_k = config.integer("index_topk", 1, kMaxContext);
  if (config.integer("qk_rope_head_dim", 2, kMaxWidth) > spec.head_dim) {
    config.refuse("qk_rope_head_dim", fmt::format("at most index_head_dim ({})", spec.head_dim));
  }
  spec.q = {module + ".wq_b"};
  spec.k = {module + ".wk"};
  spec.weights = {module + ".weights_proj"};
  spec.k_norm = module + ".k_norm.weight";
  spec.k_norm_bias = module + ".k_norm.bias";
  spec.rope.pairs = config.boolean_or("indexer_rope_interleave", interleaved_default) ? kernels::RopePairs::adjacent
                                                                                      : kernels::RopePairs::halves;
  return spec;
}

ModelSpec build(const Config& config, const RotaryKeys& rotary, bool interleaved_default) {
  require_silu(config);
  ModelSpec spec = backbone(config);
  // Layers without an indexer of their own use the choice of the last one before them.
  const std::vector<std::string> types = config.strings("indexer_types");
  if (!types.empty() && (static_cast<int>(types.size()) < spec.layers || types[0] != "full")) {
    config.refuse("indexer_types", "\"full\" or \"shared\" for each layer, \"full\" for the first");
  }
  if (types.empty() && config.has("index_topk_pattern")) config.refuse("index_topk_pattern", "null");
  if (types.empty() && config.integer_or("index_topk_freq", 1, 1, kMaxLayers) != 1) {
    config.refuse("index_topk_freq", "1, or a list of indexer_types");
  }
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    MlaSpec mixer = latent_attention(config, name + ".self_attn");
    if (mixer.q_latent_dim == 0) config.refuse("q_lora_rank", "a number: the indexer needs it");
    set_rope(rotary, mixer);
    const std::string type = types.empty() ? "full" : types[static_cast<std::size_t>(l)];
    if (type == "full") {
      mixer.indexer = indexer(config, name + ".self_attn.indexer", interleaved_default);
      mixer.indexer->rope.inv_freq = mixer.rope.inv_freq;
      mixer.indexer->rope.amplitude = mixer.rope.amplitude;
    } else if (type == "shared") {
      mixer.shared_selection = true;
    } else {
      config.refuse("indexer_types", "\"full\" or \"shared\" for each layer");
    }
    add_decoder_layer(spec, l, name, std::move(mixer), deepseek_feed_forward(config, l, name));
  }
  note_layer_types(config, spec);
  return spec;
}

}  // namespace

ModelSpec deepseek_v32_spec(const Config& config, const TensorLookup&) {
  return build(config, rotary_keys(config, 10000), false);
}

ModelSpec glm_moe_dsa_spec(const Config& config, const TensorLookup&) {
  return build(config, rotary_keys(config, std::nullopt), true);
}

}  // namespace sluice::model
