// Gemma 4, the text model: windows on most layers, a dense MLP beside the experts, norms on every branch.
#include <fmt/core.h>

#include <cmath>

#include "kernels/attention.h"
#include "model/families/common.h"

namespace sluice::model {
namespace {

/// Only the first `partial_rotary_factor` of the dimensions rotate, with frequencies that are spread over all.
RopeSpec rotary(const Config& config, const std::string& layer_type, int head_dim) {
  const Config parameters = config.child("rope_parameters").child(layer_type);
  const double base = parameters.number("rope_theta", 1, 1e12);
  if (parameters.string_or("rope_type", "default") != "proportional") {
    RopeSpec rope = scaled_rope(parameters, head_dim, base);
    if (parameters.number_or("partial_rotary_factor", 1, 0, 1) != 1) parameters.refuse("partial_rotary_factor", "1");
    return rope;
  }
  RopeSpec rope = plain_rope(head_dim, base);
  const double factor = parameters.number_or("factor", 1, 1e-3, 1e6);
  const int rotated = static_cast<int>(head_dim * parameters.number_or("partial_rotary_factor", 1, 0, 1));
  for (int i = 0; i < head_dim / 2; ++i) {
    double& inv_freq = rope.inv_freq[static_cast<std::size_t>(i)];
    inv_freq = 2 * i < rotated ? inv_freq / factor : 0;
  }
  return rope;
}

AttentionSpec attention(const Config& config, const std::string& module, const std::string& layer_type) {
  const bool full = layer_type == "full_attention";
  AttentionSpec spec;
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.head_dim =
      config.integer(full && config.has("global_head_dim") ? "global_head_dim" : "head_dim", 2, kernels::kMaxHeadDim);
  if (spec.head_dim % 2 != 0) config.refuse("head_dim", "an even number");
  const bool shared_kv = full && config.boolean_or("attention_k_eq_v", false);
  const char* kv_key =
      shared_kv && config.has("num_global_key_value_heads") ? "num_global_key_value_heads" : "num_key_value_heads";
  spec.kv_heads = config.integer(kv_key, 1, kMaxHeads);
  if (spec.heads % spec.kv_heads != 0) {
    config.refuse(kv_key, fmt::format("a divisor of num_attention_heads ({})", spec.heads));
  }
  spec.scale = 1;
  spec.q = {module + ".q_proj"};
  spec.k = {module + ".k_proj"};
  if (!shared_kv) spec.v = {module + ".v_proj"};
  spec.o = {module + ".o_proj"};
  spec.qk_norm = QkNorm::head;
  spec.q_norm = {module + ".q_norm.weight"};
  spec.k_norm = {module + ".k_norm.weight"};
  spec.v_norm = true;
  spec.rope = rotary(config, layer_type, spec.head_dim);
  if (!full) spec.window = config.integer("sliding_window", 1, kMaxContext);
  return spec;
}

MlpSpec mlp(const std::string& module, int width) {
  MlpSpec spec = swiglu_mlp(module, width);
  spec.activation = kernels::Activation::gelu_tanh_glu;
  return spec;
}

MoeSpec moe(const Config& config, const std::string& name, int hidden) {
  MoeSpec spec;
  spec.experts = config.integer("num_experts", 1, kMaxExperts);
  spec.top_k = config.integer("top_k_experts", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.activation = kernels::Activation::gelu_tanh_glu;
  spec.router.linear = {name + ".router.proj"};
  spec.router.scoring = RouterScoring::softmax_chosen;
  spec.router.expert_scale = name + ".router.per_expert_scale";
  const std::string stacked = name + ".experts.switch_glu.";
  spec.names = {{stacked + "gate_proj", stacked + "up_proj", stacked + "down_proj", "", GateUpRows::halves},
                {"", "", name + ".experts.down_proj", name + ".experts.gate_up_proj", GateUpRows::halves}};
  spec.shared = mlp(name + ".mlp", config.integer("intermediate_size", 1, kMaxWidth));
  spec.norms = BranchNorms{{name + ".router.scale", 0, static_cast<float>(1 / std::sqrt(static_cast<double>(hidden)))},
                           {name + ".pre_feedforward_layernorm_2.weight"},
                           {name + ".post_feedforward_layernorm_2.weight"},
                           {name + ".post_feedforward_layernorm_1.weight"}};
  return spec;
}

}  // namespace

ModelSpec gemma4_spec(const Config& root, const TensorLookup& tensors) {
  const Config config = root.has("text_config") ? root.child("text_config") : root;
  const std::string activation = config.string_or("hidden_activation", "gelu_pytorch_tanh");
  if (activation != "gelu_pytorch_tanh") config.refuse("hidden_activation", "\"gelu_pytorch_tanh\"");
  if (config.integer_or("num_kv_shared_layers", 0, 0, kMaxLayers) != 0) config.refuse("num_kv_shared_layers", "0");
  if (config.integer_or("hidden_size_per_layer_input", 0, 0, kMaxWidth) != 0) {
    config.refuse("hidden_size_per_layer_input", "0");
  }
  if (config.boolean_or("attention_bias", false)) config.refuse("attention_bias", "false");
  if (config.boolean_or("use_double_wide_mlp", false)) config.refuse("use_double_wide_mlp", "false");
  ModelSpec spec = backbone(config, "language_model.", true);
  spec.model_type = root.string("model_type");
  std::string prefix = "language_model.model.";
  if (tensors(spec.embedding + ".weight") == nullptr) {  // original names
    prefix = "model.language_model.";
    spec.embedding = spec.head = prefix + "embed_tokens";
    spec.final_norm = {prefix + "norm.weight"};
  }
  spec.embedding_scale = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden)));
  spec.logit_softcap = static_cast<float>(config.number_or("final_logit_softcapping", 0, 0, 1e6));
  const std::vector<std::string> types = config.strings("layer_types");
  if (static_cast<int>(types.size()) < spec.layers) config.refuse("layer_types", "a type for each layer");
  const bool has_experts = config.boolean_or("enable_moe_block", false);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("{}layers.{}", prefix, l);
    const std::string& type = types[static_cast<std::size_t>(l)];
    if (type != "sliding_attention" && type != "full_attention") {
      config.refuse("layer_types", "\"sliding_attention\" or \"full_attention\" for each layer");
    }
    BlockSpec& mixer = spec.blocks.emplace_back();
    mixer.layer = l;
    mixer.norm = {name + ".input_layernorm.weight"};
    mixer.operation = attention(config, name + ".self_attn", type);
    mixer.post_norm = VectorSpec{name + ".post_attention_layernorm.weight"};
    BlockSpec& feed_forward = spec.blocks.emplace_back();
    feed_forward.layer = l;
    feed_forward.norm = {name + ".pre_feedforward_layernorm.weight"};
    if (has_experts) {
      feed_forward.operation = moe(config, name, spec.hidden);
    } else {
      feed_forward.operation = mlp(name + ".mlp", config.integer("intermediate_size", 1, kMaxWidth));
    }
    feed_forward.post_norm = VectorSpec{name + ".post_feedforward_layernorm.weight"};
    feed_forward.output_scale = name + ".layer_scalar";
  }
  return spec;
}

}  // namespace sluice::model
