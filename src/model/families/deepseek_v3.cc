// DeepSeek-V3, Kimi-K2 and JoyAI-LLM-Flash; Kimi-K2.5 wraps the same text model.
#include <fmt/core.h>

#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {
namespace {

ModelSpec text_model(const Config& config, const std::string& prefix) {
  require_silu(config);
  ModelSpec spec = backbone(config, prefix);
  const RotaryKeys rotary = rotary_keys(config, 10000);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("{}model.layers.{}", prefix, l);
    MlaSpec mixer = latent_attention(config, name + ".self_attn");
    set_rope(rotary, mixer);
    add_decoder_layer(spec, l, name, std::move(mixer), deepseek_feed_forward(config, l, name));
  }
  note_layer_types(config, spec);
  return spec;
}

}  // namespace

ModelSpec deepseek_v3_spec(const Config& config, const TensorLookup&) { return text_model(config, ""); }

ModelSpec kimi_k25_spec(const Config& config, const TensorLookup&) {
  ModelSpec spec = text_model(config.child("text_config"), "language_model.");
  spec.model_type = config.string("model_type");
  return spec;
}

}  // namespace sluice::model
