// gpt-oss: sinks, windows on every other layer, biases throughout, experts with a clamped SwiGLU.
#include <fmt/format.h>

#include "base/error.h"
#include "model/families/common.h"

namespace sluice::model {
namespace {

AttentionSpec attention(const Config& config, const RotaryKeys& rotary, const std::string& module, bool windowed) {
  AttentionSpec spec = grouped_attention(config, module);
  for (LinearSpec* linear : {&spec.q, &spec.k, &spec.v, &spec.o}) linear->bias = true;
  spec.rope = rope(config, rotary, spec.head_dim);
  if (windowed) spec.window = config.integer("sliding_window", 1, kMaxContext);
  spec.sinks = module + ".sinks";
  return spec;
}

MoeSpec moe(const Config& config, const std::string& module) {
  MoeSpec spec;
  spec.experts = config.integer("num_local_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_tok", 1, spec.experts);
  spec.width = config.integer("intermediate_size", 1, kMaxWidth);
  spec.activation = kernels::Activation::clamped_swiglu;
  if (config.number_or("swiglu_limit", 7, 0, 1e6) != 7) config.refuse("swiglu_limit", "7");
  spec.router.linear = {module + ".router", true};
  spec.router.scoring = RouterScoring::softmax_chosen;
  spec.bias = true;
  const std::string experts = module + ".experts.";
  spec.names = {{experts + "gate_proj", experts + "up_proj", experts + "down_proj", "", GateUpRows::halves},
                {"", "", experts + "down_proj", experts + "gate_up_proj", GateUpRows::alternating}};
  return spec;
}

/// Experts in bf16 without a suffix are stored transposed in original files: [experts, hidden, 2 * width].
void refuse_transposed(const Config& config, const ModelSpec& spec, const TensorLookup& tensors) {
  const auto* both = tensors("model.layers.0.mlp.experts.gate_up_proj");
  if (both == nullptr) return;
  const std::int64_t rows = 2 * std::int64_t{config.integer("intermediate_size", 1, kMaxWidth)};
  const std::vector<std::int64_t> expected{config.integer("num_local_experts", 1, kMaxExperts), rows, spec.hidden};
  if (both->shape == expected && rows != spec.hidden) return;
  fail(
      "{}: tensor '{}' has shape [{}]: experts stored as [experts, hidden, 2 * width] are not supported; use the mxfp4 "
      "files or convert the model to MLX form",
      config.file(), both->name, fmt::join(both->shape, ", "));
}

}  // namespace

ModelSpec gpt_oss_spec(const Config& config, const TensorLookup& tensors) {
  require_silu(config);
  if (!config.boolean_or("attention_bias", true)) config.refuse("attention_bias", "true");
  ModelSpec spec = backbone(config);
  refuse_transposed(config, spec, tensors);
  const RotaryKeys rotary = rotary_keys(config, 150000);
  const std::vector<std::string> types = config.strings("layer_types");
  if (!types.empty() && static_cast<int>(types.size()) < spec.layers) {
    config.refuse("layer_types", "a type for each layer");
  }
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    bool windowed = l % 2 == 0;
    if (!types.empty()) {
      const std::string& type = types[static_cast<std::size_t>(l)];
      windowed = type == "sliding_attention";
      if (!windowed && type != "full_attention") {
        config.refuse("layer_types", "\"sliding_attention\" or \"full_attention\" for each layer");
      }
    }
    add_decoder_layer(spec, l, name, attention(config, rotary, name + ".self_attn", windowed),
                      moe(config, name + ".mlp"));
  }
  return spec;
}

}  // namespace sluice::model
