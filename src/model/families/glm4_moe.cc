// GLM-4.5 to 4.7.
#include <fmt/core.h>

#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {

ModelSpec glm4_moe_spec(const Config& config, const TensorLookup&) {
  require_silu(config);
  ModelSpec spec = backbone(config);
  const RotaryKeys rotary = rotary_keys(config, 10000, 0.5);
  const bool bias = config.boolean_or("attention_bias", false);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const std::string module = name + ".self_attn";
    AttentionSpec mixer = grouped_attention(config, module);
    for (LinearSpec* linear : {&mixer.q, &mixer.k, &mixer.v}) linear->bias = bias;
    if (config.boolean_or("use_qk_norm", false)) {
      mixer.qk_norm = QkNorm::head;
      mixer.q_norm = {module + ".q_norm.weight"};
      mixer.k_norm = {module + ".k_norm.weight"};
    }
    mixer.rope = unscaled_rope(config, rotary, mixer.head_dim, spec);
    add_decoder_layer(spec, l, name, std::move(mixer), deepseek_feed_forward(config, l, name));
  }
  note_layer_types(config, spec);
  return spec;
}

}  // namespace sluice::model
