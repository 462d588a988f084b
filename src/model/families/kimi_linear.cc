// Kimi Linear: Kimi delta attention, every fourth layer latent attention without positions.
#include <fmt/core.h>

#include <algorithm>

#include "model/families/common.h"
#include "model/families/mla.h"

namespace sluice::model {
namespace {

/// Where the names of the original files differ.
struct Names {
  bool original = false;  // block_sparse_moe, q_conv1d
  std::string feed_forward(const std::string& layer, bool moe) const {
    return layer + (original && moe ? ".block_sparse_moe" : ".mlp");
  }
};

/// Kimi K3 has the same model_type for its text model, and parts that this one has not.
void refuse_later_parts(const Config& config) {
  if (!config.boolean_or("mla_use_nope", true)) config.refuse("mla_use_nope", "true");
  if (config.boolean_or("mla_use_output_gate", false)) config.refuse("mla_use_output_gate", "false");
  for (const char* key : {"routed_expert_hidden_size", "attn_res_block_size"}) {
    if (config.has(key)) config.refuse(key, "null");
  }
  const Config linear = config.child("linear_attn_config");
  if (linear.boolean_or("use_full_rank_gate", false)) linear.refuse("use_full_rank_gate", "false");
  if (linear.has("gate_lower_bound")) linear.refuse("gate_lower_bound", "null");
}

KdaSpec delta_attention(const Config& config, const std::string& module, const Names& names) {
  const Config linear = config.child("linear_attn_config");
  KdaSpec spec;
  spec.heads = linear.integer("num_heads", 1, kMaxHeads);
  spec.head_dim = linear.integer("head_dim", 1, kernels::kMaxDeltaKeyDim);
  spec.q = {module + ".q_proj"};
  spec.k = {module + ".k_proj"};
  spec.v = {module + ".v_proj"};
  const std::string suffix = names.original ? "_conv1d.weight" : "_conv.conv.weight";
  spec.conv = {{module + ".q" + suffix, module + ".k" + suffix, module + ".v" + suffix},
               "",
               linear.integer_or("short_conv_kernel_size", 4, 2, 64)};
  spec.f_a = {module + ".f_a_proj"};
  spec.f_b = {module + ".f_b_proj"};
  spec.g_a = {module + ".g_a_proj"};
  spec.g_b = {module + ".g_b_proj"};
  spec.beta = {module + ".b_proj"};
  spec.dt_bias = module + ".dt_bias";
  spec.a_log = module + ".A_log";
  spec.norm = module + ".o_norm.weight";
  spec.o = {module + ".o_proj"};
  return spec;
}

MoeSpec moe(const Config& config, const std::string& module, const Names& names) {
  if (config.string_or("moe_router_activation_func", "sigmoid") != "sigmoid") {
    config.refuse("moe_router_activation_func", "\"sigmoid\"");
  }
  MoeSpec spec;
  spec.experts = config.integer("num_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_token", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.router.linear = {module + ".gate"};
  spec.router.scoring = RouterScoring::sigmoid;
  spec.router.correction = module + (names.original ? ".gate" : "") + ".e_score_correction_bias";
  spec.router.groups = config.integer_or("num_expert_group", 1, 1, spec.experts);
  spec.router.group_top_k = config.integer_or("topk_group", 1, 1, spec.router.groups);
  check_groups(config, "num_expert_group", spec.router, spec.experts);
  spec.router.normalize = config.boolean_or("moe_renormalize", true) && spec.top_k > 1;
  spec.router.normalize_eps = 1e-20F;
  spec.router.scale = static_cast<float>(config.number_or("routed_scaling_factor", 1, 0, 1e6));
  spec.router.ties = kernels::TieRule::lower_index;
  spec.names = block_sparse_names(module);
  if (const int shared = config.integer_or("num_shared_experts", 0, 0, 64); shared > 0) {
    spec.shared = swiglu_mlp(module + ".shared_experts", spec.width * shared);
  }
  return spec;
}

}  // namespace

ModelSpec kimi_linear_spec(const Config& config, const TensorLookup& tensors) {
  require_silu(config);
  refuse_later_parts(config);
  ModelSpec spec = backbone(config);
  if (!config.has("max_position_embeddings")) {
    spec.max_context = config.integer_or("model_max_length", spec.max_context, 1, kMaxContext);
  }
  const std::vector<int> kda_layers = config.child("linear_attn_config").integers("kda_layers");  // from 1
  const int experts = config.integer_or("num_experts", 0, 0, kMaxExperts);
  const int dense_layers = config.integer_or("first_k_dense_replace", 0, 0, kMaxLayers);
  const int frequency = config.integer_or("moe_layer_freq", 1, 1, kMaxLayers);
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("model.layers.{}", l);
    const bool is_moe = experts > 0 && l >= dense_layers && l % frequency == 0;
    Names names;
    names.original = tensors(name + ".self_attn.q_conv1d.weight") != nullptr ||
                     tensors(name + ".block_sparse_moe.gate.weight") != nullptr;
    OperationSpec mixer;
    if (std::find(kda_layers.begin(), kda_layers.end(), l + 1) != kda_layers.end()) {
      mixer = delta_attention(config, name + ".self_attn", names);
    } else {
      MlaSpec attention = latent_attention(config, name + ".self_attn");
      attention.norm_eps = spec.norm_eps;
      mixer = std::move(attention);
    }
    const std::string module = names.feed_forward(name, is_moe);
    if (is_moe) {
      add_decoder_layer(spec, l, name, std::move(mixer), moe(config, module, names));
    } else {
      add_decoder_layer(spec, l, name, std::move(mixer),
                        swiglu_mlp(module, config.integer("intermediate_size", 1, kMaxWidth)));
    }
  }
  return spec;
}

}  // namespace sluice::model
