// deepseek_v3 and glm_moe_dsa: multi-head latent attention, experts after a dense prefix; GLM adds an indexer that
// picks the keys to attend to, in some of its layers for those that follow.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "model/synth/family.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

bool is_dense(const json& config, int layer) { return layer < config.at("first_k_dense_replace").get<int>(); }

/// Whether the layer has an indexer of its own. Models without the list have one in every layer.
bool has_indexer(const json& config, int layer) {
  const auto types = config.find("indexer_types");
  if (!config.contains("index_topk")) return false;
  return types == config.end() || types->at(static_cast<std::size_t>(layer)) == "full";
}

std::vector<LayerKinds> layers(const json& config) {
  std::vector<LayerKinds> kinds;
  for (int l = 0; l < config.at("num_hidden_layers").get<int>(); ++l) {
    kinds.push_back({is_dense(config, l) ? "dense" : "moe"});
    if (config.contains("index_topk"))
      kinds.back().emplace_back(has_indexer(config, l) ? "full indexer" : "shared indexer");
  }
  return kinds;
}

void keep_layers(json& config, std::span<const int> kept) {
  const auto dense = std::count_if(kept.begin(), kept.end(), [&](int layer) { return is_dense(config, layer); });
  keep_layer_count(config, kept);
  config["first_k_dense_replace"] = dense;
  for (const char* list : {"indexer_types", "mlp_layer_types"}) {
    if (config.contains(list)) config[list] = kept_of(config.at(list), kept);
  }
}

/// Writes the tensors of one layer.
class Layer {
 public:
  Layer(const json& config, double gain, int index, TensorPlan& plan)
      : config_(config),
        index_(index),
        hidden_(integer("hidden_size")),
        gain_(gain),
        base_(fmt::format("model.layers.{}", index)),
        plan_(plan) {}

  void write() {
    attention();
    if (has_indexer(config_, index_)) indexer();
    if (is_dense(config_, index_)) {
      gated_mlp(plan_, base_ + ".mlp", hidden_, integer("intermediate_size"), gain_);
    } else {
      moe();
    }
    plan_.norm(base_ + ".input_layernorm", hidden_);
    plan_.norm(base_ + ".post_attention_layernorm", hidden_);
  }

 private:
  std::int64_t integer(const char* key) const { return config_.at(key).get<std::int64_t>(); }

  void attention() {
    const std::string base = base_ + ".self_attn";
    const std::int64_t heads = integer("num_attention_heads");
    const std::int64_t nope = integer("qk_nope_head_dim");
    const std::int64_t rope = integer("qk_rope_head_dim");
    const std::int64_t value = integer("v_head_dim");
    const std::int64_t q_rank = integer("q_lora_rank");
    const std::int64_t kv_rank = integer("kv_lora_rank");
    plan_.matrix(base + ".q_a_proj", {q_rank, hidden_});
    plan_.norm(base + ".q_a_layernorm", q_rank);
    plan_.matrix(base + ".q_b_proj", {heads * (nope + rope), q_rank});
    plan_.matrix(base + ".kv_a_proj_with_mqa", {kv_rank + rope, hidden_});
    plan_.norm(base + ".kv_a_layernorm", kv_rank);
    // Stored the wrong way round, so that it can be applied to queries: keys come from its rows.
    plan_.matrix_of_fan_in(base + ".embed_q", {kv_rank, nope, heads}, kv_rank);
    plan_.matrix(base + ".unembed_out", {value, kv_rank, heads});
    plan_.matrix(base + ".o_proj", {hidden_, heads * value}, gain_);
  }

  void indexer() {
    const std::string base = base_ + ".self_attn.indexer";
    const std::int64_t heads = integer("index_n_heads");
    const std::int64_t head_dim = integer("index_head_dim");
    plan_.matrix(base + ".wq_b", {heads * head_dim, integer("q_lora_rank")});
    plan_.matrix(base + ".wk", {head_dim, hidden_});
    plan_.norm(base + ".k_norm", head_dim);
    plan_.bias(base + ".k_norm", head_dim);
    plan_.matrix(base + ".weights_proj", {heads, hidden_});
  }

  void moe() {
    const std::string base = base_ + ".mlp";
    const std::int64_t experts = integer("n_routed_experts");
    const std::int64_t width = integer("moe_intermediate_size");
    plan_.raw_matrix(base + ".gate.weight", experts, hidden_);
    plan_.parameter(base + ".gate.e_score_correction_bias", DType::f32, {experts}, kScoreCorrection);
    gated_mlp(plan_, base + ".switch_mlp", hidden_, width, gain_, experts);
    gated_mlp(plan_, base + ".shared_experts", hidden_, width * integer("n_shared_experts"), gain_);
  }

  const json& config_;
  const int index_;
  const std::int64_t hidden_;
  const double gain_;
  const std::string base_;
  TensorPlan& plan_;
};

void tensors(const json& config, TensorPlan& plan) {
  const std::int64_t hidden = config.at("hidden_size").get<std::int64_t>();
  const std::int64_t vocabulary = config.at("vocab_size").get<std::int64_t>();
  const int layer_count = config.at("num_hidden_layers").get<int>();
  const double gain = residual_gain(layer_count);
  plan.embedding("model.embed_tokens", vocabulary, hidden);
  for (int l = 0; l < layer_count; ++l) Layer(config, gain, l, plan).write();
  plan.norm("model.norm", hidden);
  plan.matrix("lm_head", {vocabulary, hidden});
}

}  // namespace

const Family& deepseek_v3_family() {
  static const Family family{"deepseek_v3", layers, keep_layers, no_overrides, tensors};
  return family;
}

const Family& glm_moe_dsa_family() {
  static const Family family{"glm_moe_dsa", layers, keep_layers, no_overrides, tensors};
  return family;
}

}  // namespace sluice::model::synth
