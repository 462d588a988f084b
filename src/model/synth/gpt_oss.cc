// gpt_oss: sliding and full attention in turn, with sinks; biased projections, router and experts.
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "model/synth/family.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

// Logits of attention have unit size here, and a sink is one more of them.
constexpr Fill kSinks{FillKind::uniform, -1, 1};

std::vector<LayerKinds> layers(const json& config) {
  std::vector<LayerKinds> kinds;
  for (const json& type : config.at("layer_types")) kinds.push_back({type.get<std::string>()});
  return kinds;
}

void keep_layers(json& config, std::span<const int> kept) {
  keep_layer_count(config, kept);
  config["layer_types"] = kept_of(config.at("layer_types"), kept);
}

/// Beside experts in mxfp4, the form in which the model was published, everything else has 8 bits ("MXFP4-Q8"). In
/// other conversions only the router does.
void override_formats(const json& config, const kernels::Format& top, json& quantization) {
  const json dense = {{"group_size", 32}, {"bits", 8}, {"mode", "affine"}};
  const bool published = top.mode == kernels::Mode::mxfp4;
  if (published) quantization["model.embed_tokens"] = quantization["lm_head"] = dense;
  for (int l = 0; l < config.at("num_hidden_layers").get<int>(); ++l) {
    const std::string layer = fmt::format("model.layers.{}", l);
    json router = {{"group_size", top.mode == kernels::Mode::affine ? top.group : 64}, {"bits", 8}};
    if (published) {
      router["mode"] = "affine";
      for (const char* part : {"q", "k", "v", "o"}) {
        quantization[fmt::format("{}.self_attn.{}_proj", layer, part)] = dense;
      }
    }
    quantization[layer + ".mlp.router"] = router;
  }
}

void attention(const AttentionShape& shape, const std::string& base, double gain, TensorPlan& plan) {
  attention_projections(plan, base, shape, gain);
  plan.bias(base + ".q_proj", shape.q_rows);
  plan.bias(base + ".k_proj", shape.kv_heads * shape.head_dim);
  plan.bias(base + ".v_proj", shape.kv_heads * shape.head_dim);
  plan.bias(base + ".o_proj", shape.hidden);
  plan.parameter(base + ".sinks", plan.float_type(), {shape.heads}, kSinks);
}

void tensors(const json& config, TensorPlan& plan) {
  const auto integer = [&](const char* key) { return config.at(key).get<std::int64_t>(); };
  const std::int64_t hidden = integer("hidden_size");
  const std::int64_t heads = integer("num_attention_heads");
  const std::int64_t head_dim = integer("head_dim");
  const std::int64_t experts = integer("num_local_experts");
  const std::int64_t width = integer("intermediate_size");
  const int layer_count = config.at("num_hidden_layers").get<int>();
  const double gain = residual_gain(layer_count);
  plan.embedding("model.embed_tokens", integer("vocab_size"), hidden);
  for (int l = 0; l < layer_count; ++l) {
    const std::string layer = fmt::format("model.layers.{}", l);
    attention({hidden, heads, integer("num_key_value_heads"), head_dim, heads * head_dim}, layer + ".self_attn", gain,
              plan);
    plan.matrix(layer + ".mlp.router", {experts, hidden});
    plan.bias(layer + ".mlp.router", experts);
    gated_mlp(plan, layer + ".mlp.experts", hidden, width, gain, experts);
    plan.bias(layer + ".mlp.experts.gate_proj", width, experts);
    plan.bias(layer + ".mlp.experts.up_proj", width, experts);
    plan.bias(layer + ".mlp.experts.down_proj", hidden, experts);
    plan.norm(layer + ".input_layernorm", hidden);
    plan.norm(layer + ".post_attention_layernorm", hidden);
  }
  plan.norm("model.norm", hidden);
  plan.matrix("lm_head", {integer("vocab_size"), hidden});
}

}  // namespace

const Family& gpt_oss_family() {
  static const Family family{"gpt_oss", layers, keep_layers, override_formats, tensors};
  return family;
}

}  // namespace sluice::model::synth
