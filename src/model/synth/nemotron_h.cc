// nemotron_h: one mixer per layer, Mamba-2, attention without positions, or experts without a gate, which may work in a
// narrower latent space.
#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "model/synth/family.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

std::string pattern(const json& config) { return config.at("hybrid_override_pattern").get<std::string>(); }

std::vector<LayerKinds> layers(const json& config) {
  std::vector<LayerKinds> kinds;
  for (const char mixer : pattern(config))
    kinds.push_back({mixer == 'M' ? "mamba" : mixer == 'E' ? "moe" : "attention"});
  return kinds;
}

void keep_layers(json& config, std::span<const int> kept) {
  const std::string all = pattern(config);
  std::string rest;
  for (const int layer : kept) rest += all.at(static_cast<std::size_t>(layer));
  config["hybrid_override_pattern"] = rest;
  keep_layer_count(config, kept);
}

/// Writes the tensors of one mixer.
class Mixer {
 public:
  Mixer(const json& config, double gain, std::string base, TensorPlan& plan)
      : config_(config), hidden_(integer("hidden_size")), gain_(gain), base_(std::move(base)), plan_(plan) {}

  void mamba() {
    const std::int64_t heads = integer("mamba_num_heads");
    const std::int64_t inner = heads * integer("mamba_head_dim");
    const std::int64_t kernel = integer("conv_kernel");
    const std::int64_t channels = inner + 2 * integer("n_groups") * integer("ssm_state_size");  // x, B, C
    plan_.matrix(base_ + ".in_proj", {inner + channels + heads, hidden_});                      // gate, xBC, dt
    plan_.parameter(base_ + ".conv1d.weight", plan_.float_type(), {channels, kernel, 1}, convolution(kernel));
    plan_.bias(base_ + ".conv1d", channels);
    plan_.parameter(base_ + ".A_log", DType::f32, {heads}, kDecay);
    plan_.parameter(base_ + ".D", plan_.float_type(), {heads}, {FillKind::uniform, 0.9, 1.1});
    plan_.parameter(base_ + ".dt_bias", plan_.float_type(), {heads}, kStepBias);
    plan_.norm(base_ + ".norm", inner);
    plan_.matrix(base_ + ".out_proj", {hidden_, inner}, gain_);
  }

  void attention() {
    const std::int64_t heads = integer("num_attention_heads");
    const std::int64_t head_dim = integer("head_dim");
    attention_projections(plan_, base_, {hidden_, heads, integer("num_key_value_heads"), head_dim, heads * head_dim},
                          gain_);
  }

  void moe() {
    const std::int64_t experts = integer("n_routed_experts");
    const std::int64_t width = integer("moe_intermediate_size");
    const std::int64_t shared_width = integer("moe_shared_expert_intermediate_size");
    const auto latent_size = config_.find("moe_latent_size");
    const bool latent = latent_size != config_.end() && !latent_size->is_null();
    const std::int64_t outer = latent ? latent_size->get<std::int64_t>() : hidden_;  // what experts see
    plan_.raw_matrix(base_ + ".gate.weight", experts, hidden_);
    plan_.parameter(base_ + ".gate.e_score_correction_bias", DType::f32, {experts}, kScoreCorrection);
    if (latent) plan_.matrix(base_ + ".fc1_latent_proj", {outer, hidden_});
    plan_.matrix(base_ + ".switch_mlp.fc1", {width, outer, experts});
    plan_.matrix(base_ + ".switch_mlp.fc2", {outer, width, experts}, latent ? 1 : gain_);
    if (latent) plan_.matrix(base_ + ".fc2_latent_proj", {hidden_, outer}, gain_);
    plan_.matrix(base_ + ".shared_experts.up_proj", {shared_width, hidden_});
    plan_.matrix(base_ + ".shared_experts.down_proj", {hidden_, shared_width}, gain_);
  }

 private:
  std::int64_t integer(const char* key) const { return config_.at(key).get<std::int64_t>(); }

  const json& config_;
  const std::int64_t hidden_;
  const double gain_;
  const std::string base_;
  TensorPlan& plan_;
};

void tensors(const json& config, TensorPlan& plan) {
  const std::string mixers = pattern(config);
  const std::int64_t hidden = config.at("hidden_size").get<std::int64_t>();
  const std::int64_t vocabulary = config.at("vocab_size").get<std::int64_t>();
  const double gain = residual_gain(static_cast<int>(mixers.size()));
  plan.embedding("backbone.embeddings", vocabulary, hidden);
  for (std::size_t l = 0; l < mixers.size(); ++l) {
    const std::string layer = fmt::format("backbone.layers.{}", l);
    plan.norm(layer + ".norm", hidden);
    Mixer mixer(config, gain, layer + ".mixer", plan);
    if (mixers[l] == 'M') {
      mixer.mamba();
    } else if (mixers[l] == 'E') {
      mixer.moe();
    } else {
      mixer.attention();
    }
  }
  plan.norm("backbone.norm_f", hidden);
  plan.matrix("lm_head", {vocabulary, hidden});
}

}  // namespace

const Family& nemotron_h_family() {
  static const Family family{"nemotron_h", layers, keep_layers, no_overrides, tensors};
  return family;
}

}  // namespace sluice::model::synth
