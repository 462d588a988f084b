// olmoe: attention whose norms span all heads, experts in every layer, no exception from the format.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "model/synth/family.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

void tensors(const json& config, TensorPlan& plan) {
  const auto integer = [&](const char* key) { return config.at(key).get<std::int64_t>(); };
  const std::int64_t hidden = integer("hidden_size");
  const std::int64_t heads = integer("num_attention_heads");
  const std::int64_t experts = integer("num_experts");
  const AttentionShape shape{hidden, heads, integer("num_key_value_heads"), hidden / heads, hidden};
  const int layers = config.at("num_hidden_layers").get<int>();
  const double gain = residual_gain(layers);
  plan.embedding("model.embed_tokens", integer("vocab_size"), hidden);
  for (int l = 0; l < layers; ++l) {
    const std::string layer = fmt::format("model.layers.{}", l);
    attention_projections(plan, layer + ".self_attn", shape, gain);
    plan.norm(layer + ".self_attn.q_norm", shape.q_rows);
    plan.norm(layer + ".self_attn.k_norm", shape.kv_heads * shape.head_dim);
    plan.matrix(layer + ".mlp.gate", {experts, hidden});
    gated_mlp(plan, layer + ".mlp.switch_mlp", hidden, integer("intermediate_size"), gain, experts);
    plan.norm(layer + ".input_layernorm", hidden);
    plan.norm(layer + ".post_attention_layernorm", hidden);
  }
  plan.norm("model.norm", hidden);
  plan.matrix("lm_head", {integer("vocab_size"), hidden});
}

}  // namespace

const Family& olmoe_family() {
  static const Family family{"olmoe", uniform_layers, keep_layer_count, no_overrides, tensors};
  return family;
}

}  // namespace sluice::model::synth
