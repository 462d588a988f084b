// Qwen3-Next and Qwen3.5, dense and MoE: gated delta net, every fourth layer gated attention, a shared expert.
#include <fmt/core.h>

#include "model/families/common.h"

namespace sluice::model {
namespace {

/// Where the two families differ.
struct Variant {
  std::string prefix;   // of tensor names: PREFIXlayers.0, ...
  float norm_plus = 0;  // original files store norms less one
  RopeSpec rope;
  bool fused_in_proj = false;  // the input projections of the delta net lie in two matrices, by key head
  bool normalize_default = false;
};

AttentionSpec gated_attention(const Config& config, const std::string& module, const Variant& variant) {
  AttentionSpec spec = grouped_attention(config, module);
  const bool bias = config.boolean_or("attention_bias", false);
  for (LinearSpec* linear : {&spec.q, &spec.k, &spec.v, &spec.o}) linear->bias = bias;
  spec.output_gate = true;
  spec.qk_norm = QkNorm::head;
  spec.q_norm = {module + ".q_norm.weight", variant.norm_plus};
  spec.k_norm = {module + ".k_norm.weight", variant.norm_plus};
  spec.rope = variant.rope;
  return spec;
}

/// q | k | v | z | b | a out of two matrices that hold them key head by key head.
std::vector<RowsSpec> fused_in_proj(const kernels::DeltaShape& shape, const std::string& module) {
  const int values = shape.value_heads / shape.key_heads;  // value heads of a key head
  const int v_rows = values * shape.value_dim;
  const int z = shape.channels();
  const int b = z + shape.value_width();
  RowsSpec qkvz{module + ".in_proj_qkvz", shape.channels() + shape.value_width(), {}};
  RowsSpec ba{module + ".in_proj_ba", 2 * shape.value_heads, {}};
  for (int head = 0; head < shape.key_heads; ++head) {
    const int row = head * (2 * shape.key_dim + 2 * v_rows);
    qkvz.pieces.push_back({row, shape.key_dim, head * shape.key_dim});
    qkvz.pieces.push_back({row + shape.key_dim, shape.key_dim, shape.key_width() + head * shape.key_dim});
    qkvz.pieces.push_back({row + 2 * shape.key_dim, v_rows, 2 * shape.key_width() + head * v_rows});
    qkvz.pieces.push_back({row + 2 * shape.key_dim + v_rows, v_rows, z + head * v_rows});
    ba.pieces.push_back({head * 2 * values, values, b + head * values});
    ba.pieces.push_back({head * 2 * values + values, values, b + shape.value_heads + head * values});
  }
  return {qkvz, ba};
}

std::vector<RowsSpec> separate_in_proj(const kernels::DeltaShape& shape, const std::string& module) {
  const int z = shape.channels();
  const int b = z + shape.value_width();
  const auto whole = [&](const char* name, int rows, int column) {
    return RowsSpec{module + name, rows, {{0, rows, column}}};
  };
  return {whole(".in_proj_qkv", shape.channels(), 0), whole(".in_proj_z", shape.value_width(), z),
          whole(".in_proj_b", shape.value_heads, b), whole(".in_proj_a", shape.value_heads, b + shape.value_heads)};
}

DeltaNetSpec delta_net(const Config& config, const std::string& module, const Variant& variant) {
  DeltaNetSpec spec;
  spec.shape.key_heads = config.integer("linear_num_key_heads", 1, kMaxHeads);
  spec.shape.value_heads = config.integer("linear_num_value_heads", 1, kMaxHeads);
  spec.shape.key_dim = config.integer("linear_key_head_dim", 1, kernels::kMaxDeltaKeyDim);
  spec.shape.value_dim = config.integer("linear_value_head_dim", 1, kMaxWidth / kMaxHeads);
  if (spec.shape.value_heads % spec.shape.key_heads != 0) {
    config.refuse("linear_num_value_heads",
                  fmt::format("a multiple of linear_num_key_heads ({})", spec.shape.key_heads));
  }
  spec.in = variant.fused_in_proj ? fused_in_proj(spec.shape, module) : separate_in_proj(spec.shape, module);
  spec.conv = {{module + ".conv1d.weight"}, "", config.integer("linear_conv_kernel_dim", 2, 64)};
  spec.dt_bias = module + ".dt_bias";
  spec.a_log = module + ".A_log";
  spec.norm = module + ".norm.weight";
  spec.out = {module + ".out_proj"};
  return spec;
}

MoeSpec moe(const Config& config, const std::string& module, const Variant& variant) {
  MoeSpec spec;
  spec.experts = config.integer("num_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_tok", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.router.linear = {module + ".gate"};
  spec.router.normalize = config.boolean_or("norm_topk_prob", variant.normalize_default);
  spec.names = switch_mlp_names(module);
  spec.names.push_back({"", "", module + ".experts.down_proj", module + ".experts.gate_up_proj", GateUpRows::halves});
  spec.shared = swiglu_mlp(module + ".shared_expert", config.integer("shared_expert_intermediate_size", 1, kMaxWidth));
  spec.shared_gate = {module + ".shared_expert_gate"};
  return spec;
}

void add_layers(const Config& config, const Variant& variant, ModelSpec& spec) {
  require_silu(config);
  if (!config.boolean_or("attn_output_gate", true)) config.refuse("attn_output_gate", "true");
  if (config.boolean_or("use_sliding_window", false)) config.refuse("use_sliding_window", "false");
  const int interval = config.integer_or("full_attention_interval", 4, 1, kMaxLayers);
  const std::vector<std::string> types = config.strings("layer_types");
  const int sparse_step = config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  const bool has_experts = config.integer_or("num_experts", 0, 0, kMaxExperts) > 0;
  const std::vector<int> dense_layers = config.integers("mlp_only_layers");
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("{}layers.{}", variant.prefix, l);
    const bool linear = (l + 1) % interval != 0;
    const auto index = static_cast<std::size_t>(l);
    const char* type = linear ? "linear_attention" : "full_attention";
    if (!types.empty() && (index >= types.size() || types[index] != type)) note_ignored(config, "layer_types", spec);
    OperationSpec mixer = gated_attention(config, name + ".self_attn", variant);
    if (linear) mixer = delta_net(config, name + ".linear_attn", variant);
    const bool dense = std::find(dense_layers.begin(), dense_layers.end(), l) != dense_layers.end();
    if (has_experts && !dense && (l + 1) % sparse_step == 0) {
      add_decoder_layer(spec, l, name, std::move(mixer), moe(config, name + ".mlp", variant), variant.norm_plus);
    } else {
      const int width = config.integer("intermediate_size", 1, kMaxWidth);
      add_decoder_layer(spec, l, name, std::move(mixer), swiglu_mlp(name + ".mlp", width), variant.norm_plus);
    }
  }
  spec.final_norm.plus = variant.norm_plus;
}

}  // namespace

ModelSpec qwen3_next_spec(const Config& config, const TensorLookup& tensors) {
  ModelSpec spec = backbone(config);
  Variant variant;
  variant.prefix = "model.";
  // Original files are known by their experts, one matrix each, and the shape of the convolution: [channels, 1, taps].
  // MLX turns the latter, so packed files of MLX have only the former.
  const auto* conv = tensors("model.layers.0.linear_attn.conv1d.weight");
  const bool turned = conv != nullptr && conv->shape.back() == 1;
  variant.norm_plus = tensors("model.layers.0.mlp.experts.0.up_proj.weight") != nullptr && !turned ? 1.0F : 0.0F;
  const int head_dim = grouped_attention(config, "").head_dim;
  variant.rope = rope(config, rotary_keys(config, std::nullopt, 0.25), head_dim);
  variant.fused_in_proj = true;
  add_layers(config, variant, spec);
  return spec;
}

ModelSpec qwen3_5_spec(const Config& root, const TensorLookup& tensors) {
  const Config config = root.has("text_config") ? root.child("text_config") : root;
  ModelSpec spec = backbone(config, "language_model.");
  spec.model_type = root.string("model_type");
  Variant variant;
  variant.prefix = "language_model.model.";
  if (tensors(spec.embedding + ".weight") == nullptr) {  // original names
    variant.prefix = "model.language_model.";
    spec.embedding = "model.language_model.embed_tokens";
    spec.final_norm = {"model.language_model.norm.weight"};
    spec.head = config.boolean_or("tie_word_embeddings", false) ? spec.embedding : "lm_head";
  }
  // Original files are known by the shape of the convolution: [channels, 1, taps].
  for (int l = 0; l < spec.layers; ++l) {
    const auto* conv = tensors(fmt::format("{}layers.{}.linear_attn.conv1d.weight", variant.prefix, l));
    if (conv != nullptr && conv->shape.back() != 1) variant.norm_plus = 1;
  }
  const int head_dim = grouped_attention(config, "").head_dim;
  variant.rope = rope(config, rotary_keys(config, 100000, 0.25), head_dim);
  variant.normalize_default = true;
  add_layers(config, variant, spec);
  return spec;
}

}  // namespace sluice::model
