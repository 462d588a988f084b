// GLM-4.5 to 4.7.
#include <fmt/core.h>

#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {

ModelSpec glm4_moe_spec(const Config& config, const TensorLookup&) {
  require_silu(config);
  ModelSpec spec = backbone(config);
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
    const int rotated = static_cast<int>(mixer.head_dim * config.number_or("partial_rotary_factor", 0.5, 0, 1));
    if (rotated % 2 != 0) config.refuse("partial_rotary_factor", "an even number of rotated dimensions");
    mixer.rope = plain_rope(rotated, config.number_or("rope_theta", 10000, 1, 1e12));  // rope_scaling is ignored
    add_decoder_layer(spec, l, name, std::move(mixer), deepseek_feed_forward(config, l, name));
  }
  return spec;
}

}  // namespace sluice::model
