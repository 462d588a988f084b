// What families with multi-head latent attention have in common (DeepSeek-V3 and its descendants).
#pragma once

#include <string>

#include "model/families/common.h"

namespace sluice::model {

/// Latent attention in `module` with the usual keys and names; no rotary embedding.
MlaSpec latent_attention(const Config& config, const std::string& module);

/// Rotary embedding on adjacent pairs. YaRN also sharpens the softmax: scale * (0.1 mscale_all_dim ln(factor) + 1)^2.
void set_rope(const RotaryKeys& keys, MlaSpec& spec);

/// The feed-forward block of `layer`: dense before first_k_dense_replace, else experts with a correction in
/// LAYER.mlp.gate.e_score_correction_bias and a shared expert.
OperationSpec deepseek_feed_forward(const Config& config, int layer, const std::string& name);

/// Some configs say twice which layers have experts; the other keys count, with a notice if they differ.
void note_layer_types(const Config& config, ModelSpec& spec);

}  // namespace sluice::model
