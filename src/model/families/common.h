// What several families have in common: reading sizes with their limits, and the usual names.
#pragma once

#include <optional>
#include <string>

#include "model/families/family.h"

namespace sluice::model {

// Ranges that every real model is far inside; they keep products of two sizes within 63 bits and one size within int.
inline constexpr int kMaxWidth = 1 << 20;
inline constexpr int kMaxVocabulary = 1 << 24;
inline constexpr int kMaxLayers = 4096;
inline constexpr int kMaxHeads = 4096;
inline constexpr int kMaxExperts = 65536;
inline constexpr int kMaxContext = 1 << 30;

/// Refuses an activation of MLPs and experts other than silu.
void require_silu(const Config& config);

/// Refuses a list at `key` that asks for another kind of layer than `kind`; absent is fine.
void require_layers(const Config& config, const char* key, std::string_view kind);

/// hidden, vocabulary, layers, max_context and norm_eps from their usual keys; PREFIXmodel.embed_tokens,
/// PREFIXmodel.norm and PREFIXlm_head. `tied` is the default of tie_word_embeddings.
ModelSpec backbone(const Config& config, const std::string& prefix = "", bool tied = false);

/// q_proj, k_proj, v_proj and o_proj in `module`, sizes from the usual keys, scale head_dim^-0.5; no norm, no rotary
/// embedding. `default_head_dim` when the config has no head_dim; 0: hidden / heads.
AttentionSpec grouped_attention(const Config& config, const std::string& module);

/// gate_proj, up_proj and down_proj in `module`.
MlpSpec swiglu_mlp(const std::string& module, int width);

/// Experts in `module`.switch_mlp.{gate,up,down}_proj, or one by one in `module`.experts.N.
std::vector<ExpertNames> switch_mlp_names(const std::string& module);

/// The same under Mixtral's names: the experts one by one are `module`.experts.N.{w1,w3,w2}.
std::vector<ExpertNames> block_sparse_names(const std::string& module);

/// Rotary embedding over `dims` dimensions: base^(-2i/dims).
RopeSpec plain_rope(int dims, double base, kernels::RopePairs pairs = kernels::RopePairs::halves);

/// The same with a scaling object of config.json: default, linear, yarn (and deepseek_yarn), llama3. Throws Error
/// naming any other type. Formulas: docs/arithmetic.md.
RopeSpec scaled_rope(const Config& scaling, int dims, double base,
                     kernels::RopePairs pairs = kernels::RopePairs::halves);

/// What a config says of the rotary embedding, at the top level (rope_theta, rope_scaling, partial_rotary_factor) or,
/// as newer ones do, in rope_parameters.
struct RotaryKeys {
  double base = 0;
  double fraction = 1;            // of a head's dimensions that rotate
  std::optional<Config> scaling;  // holds the type of scaling and its parameters
};

/// Without `default_base` the config must name one. Throws Error if it says two different things.
RotaryKeys rotary_keys(const Config& config, std::optional<double> default_base, double default_fraction = 1);

/// The embedding of a head: scaled_rope, or plain_rope without scaling, of its first head_dim * fraction dimensions.
RopeSpec rope(const Config& config, const RotaryKeys& keys, int head_dim);

/// The same for families that the reference computes without scaling: any is ignored, with a notice.
RopeSpec unscaled_rope(const Config& config, const RotaryKeys& keys, int head_dim, ModelSpec& spec);

/// Says once that `key` is ignored, because the reference implementation ignores it.
void note_ignored(const Config& config, std::string_view key, ModelSpec& spec);

/// Sigmoid scores, a correction for the choice alone, groups of experts: the router of DeepSeek-V3 and its
/// descendants, with keys n_group, topk_group, norm_topk_prob and routed_scaling_factor.
RouterSpec corrected_sigmoid_router(const Config& config, const std::string& linear, const std::string& correction,
                                    int experts, int top_k);

/// Checks groups of a router against its experts. Throws Error naming `key`.
void check_groups(const Config& config, const char* key, const RouterSpec& router, int experts);

/// LAYER.input_layernorm, the mixer, LAYER.post_attention_layernorm, the feed-forward block. `norm_plus` is added to
/// both norms.
void add_decoder_layer(ModelSpec& spec, int layer, const std::string& name, OperationSpec mixer,
                       OperationSpec feed_forward, float norm_plus = 0);

}  // namespace sluice::model
