// qwen3_moe: grouped-query attention and experts in every layer. qwen3_5_moe: three layers of gated delta rule for one
// of gated attention, and a shared expert.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "model/synth/family.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

constexpr int kFullAttentionInterval = 4;  // what the reference takes when the config is silent

/// The converter keeps routers at 8 bits whatever the rest has.
json router_format() { return {{"group_size", 64}, {"bits", 8}}; }

int integer(const json& config, const char* key) { return config.at(key).get<int>(); }

AttentionShape attention_shape(const json& config, int q_rows_per_head) {
  const int heads = integer(config, "num_attention_heads");
  return {integer(config, "hidden_size"), heads, integer(config, "num_key_value_heads"), integer(config, "head_dim"),
          std::int64_t{heads} * q_rows_per_head};
}

void attention(const json& config, const std::string& base, int q_rows_per_head, double gain, TensorPlan& plan) {
  const AttentionShape shape = attention_shape(config, q_rows_per_head);
  attention_projections(plan, base, shape, gain);
  plan.norm(base + ".q_norm", shape.head_dim);
  plan.norm(base + ".k_norm", shape.head_dim);
}

void routed_experts(const json& config, const std::string& base, double gain, TensorPlan& plan) {
  const int hidden = integer(config, "hidden_size");
  const int experts = integer(config, "num_experts");
  plan.matrix(base + ".gate", {experts, hidden});
  gated_mlp(plan, base + ".switch_mlp", hidden, integer(config, "moe_intermediate_size"), gain, experts);
}

void qwen3_overrides(const json& config, const kernels::Format&, json& quantization) {
  for (int l = 0; l < integer(config, "num_hidden_layers"); ++l) {
    quantization[fmt::format("model.layers.{}.mlp.gate", l)] = router_format();
  }
}

void qwen3_tensors(const json& config, TensorPlan& plan) {
  const int hidden = integer(config, "hidden_size");
  const int layers = integer(config, "num_hidden_layers");
  const double gain = residual_gain(layers);
  plan.embedding("model.embed_tokens", integer(config, "vocab_size"), hidden);
  for (int l = 0; l < layers; ++l) {
    const std::string layer = fmt::format("model.layers.{}", l);
    attention(config, layer + ".self_attn", integer(config, "head_dim"), gain, plan);
    routed_experts(config, layer + ".mlp", gain, plan);
    plan.norm(layer + ".input_layernorm", hidden);
    plan.norm(layer + ".post_attention_layernorm", hidden);
  }
  plan.norm("model.norm", hidden);
  plan.matrix("lm_head", {integer(config, "vocab_size"), hidden});
}

bool is_linear(const json& text, int layer) {
  return (layer + 1) % text.value("full_attention_interval", kFullAttentionInterval) != 0;
}

std::vector<LayerKinds> qwen3_5_layers(const json& config) {
  const json& text = config.at("text_config");
  std::vector<LayerKinds> layers;
  for (int l = 0; l < integer(text, "num_hidden_layers"); ++l) {
    layers.push_back({is_linear(text, l) ? "linear_attention" : "full_attention"});
  }
  return layers;
}

/// The reference finds the kind of a layer by the interval alone, so fewer layers than an interval need a shorter one.
void qwen3_5_keep(json& config, std::span<const int> kept) {
  json& text = config.at("text_config");
  const int count = static_cast<int>(kept.size());
  text["num_hidden_layers"] = count;
  text["full_attention_interval"] = std::min(count, text.value("full_attention_interval", kFullAttentionInterval));
  json types = json::array();
  for (int l = 0; l < count; ++l) types.push_back(is_linear(text, l) ? "linear_attention" : "full_attention");
  text["layer_types"] = types;
}

void qwen3_5_overrides(const json& config, const kernels::Format&, json& quantization) {
  for (int l = 0; l < integer(config.at("text_config"), "num_hidden_layers"); ++l) {
    const std::string mlp = fmt::format("language_model.model.layers.{}.mlp", l);
    quantization[mlp + ".gate"] = router_format();
    quantization[mlp + ".shared_expert_gate"] = router_format();
  }
}

void delta_net(const json& text, const std::string& base, double gain, TensorPlan& plan) {
  const int hidden = integer(text, "hidden_size");
  const int value_heads = integer(text, "linear_num_value_heads");
  const int value_head_dim = integer(text, "linear_value_head_dim");
  const int kernel = integer(text, "linear_conv_kernel_dim");
  const std::int64_t keys = std::int64_t{integer(text, "linear_num_key_heads")} * integer(text, "linear_key_head_dim");
  const std::int64_t values = std::int64_t{value_heads} * value_head_dim;
  const std::int64_t channels = 2 * keys + values;  // queries, keys, values
  plan.matrix(base + ".in_proj_qkv", {channels, hidden});
  plan.matrix(base + ".in_proj_z", {values, hidden});
  plan.matrix(base + ".in_proj_b", {value_heads, hidden});
  plan.matrix(base + ".in_proj_a", {value_heads, hidden});
  plan.parameter(base + ".conv1d.weight", plan.float_type(), {channels, kernel, 1}, convolution(kernel));
  plan.parameter(base + ".A_log", DType::f32, {value_heads}, kDecay);
  plan.parameter(base + ".dt_bias", plan.float_type(), {value_heads}, kStepBias);
  plan.norm(base + ".norm", value_head_dim);
  plan.matrix(base + ".out_proj", {hidden, values}, gain);
}

void qwen3_5_tensors(const json& config, TensorPlan& plan) {
  const json& text = config.at("text_config");
  const int hidden = integer(text, "hidden_size");
  const int layers = integer(text, "num_hidden_layers");
  const double gain = residual_gain(layers);
  plan.embedding("language_model.model.embed_tokens", integer(text, "vocab_size"), hidden);
  for (int l = 0; l < layers; ++l) {
    const std::string layer = fmt::format("language_model.model.layers.{}", l);
    if (is_linear(text, l)) {
      delta_net(text, layer + ".linear_attn", gain, plan);
    } else {
      // Each head's query is followed by its output gate.
      attention(text, layer + ".self_attn", 2 * integer(text, "head_dim"), gain, plan);
    }
    routed_experts(text, layer + ".mlp", gain, plan);
    gated_mlp(plan, layer + ".mlp.shared_expert", hidden, integer(text, "shared_expert_intermediate_size"), gain);
    plan.matrix(layer + ".mlp.shared_expert_gate", {1, hidden});
    plan.norm(layer + ".input_layernorm", hidden);
    plan.norm(layer + ".post_attention_layernorm", hidden);
  }
  plan.norm("language_model.model.norm", hidden);
  plan.matrix("language_model.lm_head", {integer(text, "vocab_size"), hidden});
}

}  // namespace

const Family& qwen3_moe_family() {
  static const Family family{"qwen3_moe", uniform_layers, keep_layer_count, qwen3_overrides, qwen3_tensors};
  return family;
}

const Family& qwen3_5_moe_family() {
  static const Family family{"qwen3_5_moe", qwen3_5_layers, qwen3_5_keep, qwen3_5_overrides, qwen3_5_tensors};
  return family;
}

}  // namespace sluice::model::synth
