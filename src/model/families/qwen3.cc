#include "model/families/qwen3.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/attention.h"

namespace sluice::model {
namespace {

// Ranges that every real model is far inside; they keep products of two sizes within 63 bits and one size within int.
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr int kMaxLayers = 4096;
constexpr int kMaxHeads = 4096;
constexpr int kMaxExperts = 65536;
constexpr int kMaxContext = 1 << 30;

/// Inverse frequencies of the rotary embedding over `dims` dimensions: base^(-2i/dims).
std::vector<double> rope_frequencies(int dims, double base) {
  std::vector<double> frequencies;
  for (int i = 0; i < dims / 2; ++i) frequencies.push_back(std::pow(base, -2.0 * i / dims));
  return frequencies;
}

/// Refuses what would change the numbers and is not computed here.
void refuse_unsupported(const Config& config) {
  if (config.string_or("hidden_act", "silu") != "silu") config.refuse("hidden_act", "\"silu\"");
  if (config.boolean_or("attention_bias", false)) config.refuse("attention_bias", "false");
  if (config.boolean_or("use_sliding_window", false)) config.refuse("use_sliding_window", "false");
}

AttentionSpec attention(const Config& config, const std::string& layer) {
  AttentionSpec spec;
  const int hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.kv_heads = config.integer_or("num_key_value_heads", spec.heads, 1, kMaxHeads);
  if (spec.heads % spec.kv_heads != 0) {
    config.refuse("num_key_value_heads", fmt::format("a divisor of num_attention_heads ({})", spec.heads));
  }
  spec.head_dim = config.integer_or("head_dim", std::max(1, hidden / spec.heads), 1, kernels::kMaxHeadDim);
  if (spec.head_dim % 2 != 0) config.refuse("head_dim", "an even number");
  spec.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
  const std::string base = layer + ".self_attn.";
  spec.q = base + "q_proj";
  spec.k = base + "k_proj";
  spec.v = base + "v_proj";
  spec.o = base + "o_proj";
  spec.q_norm = base + "q_norm.weight";
  spec.k_norm = base + "k_norm.weight";
  spec.rope_inv_freq = rope_frequencies(spec.head_dim, config.number("rope_theta", 1, 1e12));
  return spec;
}

MlpSpec mlp(const Config& config, const std::string& layer) {
  return {config.integer("intermediate_size", 1, kMaxWidth), layer + ".mlp.gate_proj", layer + ".mlp.up_proj",
          layer + ".mlp.down_proj"};
}

MoeSpec moe(const Config& config, const std::string& layer) {
  MoeSpec spec;
  spec.experts = config.integer("num_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_tok", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.normalize_top_k = config.boolean_or("norm_topk_prob", false);
  spec.ties = kernels::TieRule::higher_index;
  spec.router = layer + ".mlp.gate";
  spec.stacked = layer + ".mlp.switch_mlp";
  spec.per_expert = layer + ".mlp.experts";
  return spec;
}

/// Everything but the feed-forward blocks, which are left as MLPs without names.
ModelSpec backbone(const Config& config) {
  refuse_unsupported(config);
  ModelSpec spec;
  spec.model_type = config.string("model_type");
  spec.hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.max_context = config.integer_or("max_position_embeddings", 32768, 1, kMaxContext);
  spec.norm_eps = static_cast<float>(config.number_or("rms_norm_eps", 1e-6, 0, 1));
  spec.embedding = "model.embed_tokens";
  spec.final_norm = "model.norm.weight";
  spec.head = config.boolean_or("tie_word_embeddings", false) ? spec.embedding : "lm_head";
  const int layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  for (int l = 0; l < layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    spec.layers.push_back({name + ".input_layernorm.weight", attention(config, name),
                           name + ".post_attention_layernorm.weight", MlpSpec{}});
  }
  return spec;
}

}  // namespace

ModelSpec qwen3_spec(const Config& config) {
  // The reference ignores rope_scaling in qwen3_moe, but uses it here.
  if (config.has("rope_scaling")) config.refuse("rope_scaling", "null: scaled rotary embeddings are not built yet");
  ModelSpec spec = backbone(config);
  for (std::size_t l = 0; l < spec.layers.size(); ++l) {
    spec.layers[l].feed_forward = mlp(config, fmt::format("model.layers.{}", l));
  }
  return spec;
}

ModelSpec qwen3_moe_spec(const Config& config) {
  ModelSpec spec = backbone(config);
  const std::vector<int> dense_layers = config.integers("mlp_only_layers");
  const int sparse_step = config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int l = 0; l < static_cast<int>(spec.layers.size()); ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const bool dense = std::find(dense_layers.begin(), dense_layers.end(), l) != dense_layers.end();
    LayerSpec& layer = spec.layers[static_cast<std::size_t>(l)];
    if (!dense && (l + 1) % sparse_step == 0) {
      layer.feed_forward = moe(config, name);
    } else {
      layer.feed_forward = mlp(config, name);
    }
  }
  return spec;
}

}  // namespace sluice::model
