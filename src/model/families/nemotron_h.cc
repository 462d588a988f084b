// Nemotron-H and Nemotron 3: one mixer per layer (Mamba-2, attention without positions, MLP or MoE), latent experts.
#include <fmt/core.h>

#include <cmath>

#include "model/families/common.h"

namespace sluice::model {
namespace {

enum class Kind : std::uint8_t { mamba, attention, moe, mlp };

/// The kind of each layer: a string or a list of letters, or a list of words.
std::vector<Kind> layer_kinds(const Config& config) {
  const char* key = config.has("hybrid_override_pattern") ? "hybrid_override_pattern" : "layers_block_type";
  std::vector<std::string> names;
  if (config.has("hybrid_override_pattern") && config.is_string(key)) {
    for (const char letter : config.string(key)) names.emplace_back(1, letter);
  } else {
    names = config.strings(key);
  }
  std::vector<Kind> kinds;
  for (const std::string& name : names) {
    if (name == "M" || name == "mamba") {
      kinds.push_back(Kind::mamba);
    } else if (name == "*" || name == "attention") {
      kinds.push_back(Kind::attention);
    } else if (name == "E" || name == "moe") {
      kinds.push_back(Kind::moe);
    } else if (name == "-" || name == "mlp") {
      kinds.push_back(Kind::mlp);
    } else {
      config.refuse(key, "layers of kind M, *, E, - (mamba, attention, moe, mlp)");
    }
  }
  if (kinds.empty() || kinds.size() > kMaxLayers) config.refuse(key, "the kinds of all layers");
  return kinds;
}

void require_relu2(const Config& config) {
  if (config.string_or("mlp_hidden_act", "relu2") != "relu2") config.refuse("mlp_hidden_act", "\"relu2\"");
}

Mamba2Spec mamba(const Config& config, const std::string& module) {
  if (config.string_or("mamba_hidden_act", "silu") != "silu") config.refuse("mamba_hidden_act", "\"silu\"");
  Mamba2Spec spec;
  spec.shape.heads = config.integer("mamba_num_heads", 1, kMaxHeads);
  spec.shape.head_dim = config.integer("mamba_head_dim", 1, kMaxWidth / kMaxHeads);
  spec.shape.groups = config.integer("n_groups", 1, spec.shape.heads);
  spec.shape.state = config.integer("ssm_state_size", 1, 4096);
  if (spec.shape.heads % spec.shape.groups != 0) {
    config.refuse("n_groups", fmt::format("a divisor of mamba_num_heads ({})", spec.shape.heads));
  }
  const bool bias = config.boolean_or("mamba_proj_bias", false);
  spec.in = {module + ".in_proj", bias};
  spec.conv = {{module + ".conv1d.weight"},
               config.boolean_or("use_conv_bias", true) ? module + ".conv1d.bias" : "",
               config.integer("conv_kernel", 2, 64)};
  spec.dt_bias = module + ".dt_bias";
  spec.a_log = module + ".A_log";
  spec.d = module + ".D";
  spec.norm = module + ".norm.weight";
  if (const std::vector<double> limits = config.numbers("time_step_limit"); !limits.empty()) {
    if (limits.size() != 2 || !(limits[0] <= limits[1])) config.refuse("time_step_limit", "[low, high]");
    spec.dt_low = static_cast<float>(limits[0]);
    spec.dt_high = static_cast<float>(limits[1]);
  }
  spec.out = {module + ".out_proj", bias};
  return spec;
}

AttentionSpec attention(const Config& config, const std::string& module) {
  AttentionSpec spec = grouped_attention(config, module);
  const bool bias = config.boolean_or("attention_bias", false);
  for (LinearSpec* linear : {&spec.q, &spec.k, &spec.v, &spec.o}) linear->bias = bias;
  return spec;
}

MlpSpec mlp(const Config& config, const std::string& module, int width) {
  const bool bias = config.boolean_or("mlp_bias", false);
  return {width, kernels::Activation::relu2, {}, {module + ".up_proj", bias}, {module + ".down_proj", bias}};
}

MoeSpec moe(const Config& config, const std::string& module, const TensorLookup& tensors) {
  // The reference gives biases to the shared expert alone.
  for (const char* name : {".switch_mlp.fc1.bias", ".experts.0.up_proj.bias"}) {
    if (tensors(module + name) != nullptr) config.refuse("mlp_bias", "false: biases of experts are not supported");
  }
  MoeSpec spec;
  spec.experts = config.integer("n_routed_experts", 1, kMaxExperts);
  spec.top_k = config.integer("num_experts_per_tok", 1, spec.experts);
  spec.width = config.integer("moe_intermediate_size", 1, kMaxWidth);
  spec.activation = kernels::Activation::relu2;
  spec.router = corrected_sigmoid_router(config, module + ".gate", module + ".gate.e_score_correction_bias",
                                         spec.experts, spec.top_k);
  spec.router.normalize_eps = 1e-20F;
  const std::string one = module + ".experts.{}.";
  spec.names = {{"", module + ".switch_mlp.fc1", module + ".switch_mlp.fc2", "", GateUpRows::halves},
                {"", one + "up_proj", one + "down_proj", "", GateUpRows::halves}};
  spec.latent_dim = config.integer_or("moe_latent_size", 0, 1, kMaxWidth);
  if (spec.latent_dim > 0) {
    spec.latent_in = {module + ".fc1_latent_proj"};
    spec.latent_out = {module + ".fc2_latent_proj"};
  }
  if (config.has("n_shared_experts")) {
    spec.shared =
        mlp(config, module + ".shared_experts", config.integer("moe_shared_expert_intermediate_size", 1, kMaxWidth));
  }
  return spec;
}

}  // namespace

ModelSpec nemotron_h_spec(const Config& config, const TensorLookup& tensors) {
  require_relu2(config);
  if (config.has("sliding_window")) config.refuse("sliding_window", "null");
  if (config.boolean_or("use_bias", false) && !config.boolean_or("mamba_proj_bias", false)) {
    config.refuse("use_bias", "what mamba_proj_bias says");
  }
  const std::vector<Kind> kinds = layer_kinds(config);
  ModelSpec spec;
  spec.model_type = config.string("model_type");
  spec.hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.layers = static_cast<int>(kinds.size());
  spec.max_context = config.integer_or("max_position_embeddings", 4096, 1, kMaxContext);
  spec.norm_eps = static_cast<float>(config.number_or("layer_norm_epsilon", 1e-5, 0, 1));
  spec.embedding = "backbone.embeddings";
  spec.final_norm = {"backbone.norm_f.weight"};
  spec.head = "lm_head";
  for (int l = 0; l < spec.layers; ++l) {
    const std::string name = fmt::format("backbone.layers.{}", l);
    const std::string mixer = name + ".mixer";
    BlockSpec& block = spec.blocks.emplace_back(BlockSpec{l, {name + ".norm.weight"}, {}});
    switch (kinds[static_cast<std::size_t>(l)]) {
      case Kind::mamba:
        block.operation = mamba(config, mixer);
        break;
      case Kind::attention:
        block.operation = attention(config, mixer);
        break;
      case Kind::moe:
        block.operation = moe(config, mixer, tensors);
        break;
      case Kind::mlp:
        block.operation = mlp(config, mixer, config.integer("intermediate_size", 1, kMaxWidth));
        break;
    }
  }
  if (config.boolean_or("tie_word_embeddings", false)) note_ignored(config, "tie_word_embeddings", spec);
  return spec;
}

}  // namespace sluice::model
