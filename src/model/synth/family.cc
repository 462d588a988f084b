#include "model/synth/family.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <nlohmann/json.hpp>

namespace sluice::model::synth {

using nlohmann::json;

const Family& family_of(std::string_view model_type) {
  static const std::array kFamilies{&qwen3_moe_family(),  &qwen3_5_moe_family(), &olmoe_family(),
                                    &gpt_oss_family(),    &nemotron_h_family(),  &deepseek_v3_family(),
                                    &glm_moe_dsa_family()};
  const auto* found = std::find_if(kFamilies.begin(), kFamilies.end(),
                                   [&](const Family* family) { return family->model_type == model_type; });
  assert(found != kFamilies.end());
  return **found;
}

std::vector<LayerKinds> uniform_layers(const json& config) {
  return std::vector<LayerKinds>(config.at("num_hidden_layers").get<std::size_t>(), {"moe"});
}

void keep_layer_count(json& config, std::span<const int> kept) { config["num_hidden_layers"] = kept.size(); }

void no_overrides(const json&, const kernels::Format&, json&) {}

json kept_of(const json& list, std::span<const int> kept) {
  json rest = json::array();
  for (const int layer : kept) rest.push_back(list.at(static_cast<std::size_t>(layer)));
  return rest;
}

void attention_projections(TensorPlan& plan, const std::string& base, const AttentionShape& shape, double gain) {
  const std::int64_t kv_rows = shape.kv_heads * shape.head_dim;
  plan.matrix(base + ".q_proj", {shape.q_rows, shape.hidden});
  plan.matrix(base + ".k_proj", {kv_rows, shape.hidden});
  plan.matrix(base + ".v_proj", {kv_rows, shape.hidden});
  plan.matrix(base + ".o_proj", {shape.hidden, shape.heads * shape.head_dim}, gain);
}

void gated_mlp(TensorPlan& plan, const std::string& base, std::int64_t hidden, std::int64_t width, double gain,
               std::int64_t experts) {
  plan.matrix(base + ".gate_proj", {width, hidden, experts});
  plan.matrix(base + ".up_proj", {width, hidden, experts});
  plan.matrix(base + ".down_proj", {hidden, width, experts}, gain);
}

Fill convolution(std::int64_t kernel) {
  const double half_width = std::sqrt(3.0 / static_cast<double>(kernel));
  return {FillKind::uniform, -half_width, half_width};
}

}  // namespace sluice::model::synth
