// What a model family needs to know so that checkpoints of its shapes can be made.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/format.h"
#include "model/synth/tensor_plan.h"

namespace sluice::model::synth {

/// What a layer has that another layer may lack: "mamba", "moe", "dense", "sliding_attention", ...
using LayerKinds = std::vector<std::string>;

/// Functions of a family. `config` is a config.json of the family, ours or from a test: keys are there.
struct Family {
  std::string_view model_type;
  /// The kinds of every layer, in order.
  std::vector<LayerKinds> (*layers)(const nlohmann::json& config);
  /// Rewrites the config so that of its layers only `kept` remain, in that order.
  void (*keep_layers)(nlohmann::json& config, std::span<const int> kept);
  /// Adds the modules that the MLX converter stores in another format than `top` to the "quantization" object.
  void (*override_formats)(const nlohmann::json& config, const kernels::Format& top, nlohmann::json& quantization);
  /// All tensors in the order of the module tree.
  void (*tensors)(const nlohmann::json& config, TensorPlan& plan);
};

const Family& qwen3_moe_family();
const Family& qwen3_5_moe_family();
const Family& olmoe_family();
const Family& gpt_oss_family();
const Family& nemotron_h_family();
const Family& deepseek_v3_family();
const Family& glm_moe_dsa_family();

/// The family of that "model_type". Must exist.
const Family& family_of(std::string_view model_type);

/// Parts that several families share.

/// The layers of families in which all are alike.
std::vector<LayerKinds> uniform_layers(const nlohmann::json& config);
void keep_layer_count(nlohmann::json& config, std::span<const int> kept);
void no_overrides(const nlohmann::json& config, const kernels::Format& top, nlohmann::json& quantization);

/// The elements of a per-layer list that belong to the kept layers.
nlohmann::json kept_of(const nlohmann::json& list, std::span<const int> kept);

/// BASE.{q,k,v,o}_proj. `q_rows` is more than the heads take where the projection also makes a gate.
struct AttentionShape {
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, q_rows = 0;
};
void attention_projections(TensorPlan& plan, const std::string& base, const AttentionShape& shape, double gain);

/// BASE.{gate,up,down}_proj: one gated block, or a stack of experts.
void gated_mlp(TensorPlan& plan, const std::string& base, std::int64_t hidden, std::int64_t width, double gain,
               std::int64_t experts = 0);

/// A router's correction of its choices. Sigmoid scores of unit logits have a deviation of 0.2: a tenth to a quarter
/// of that shifts choices without settling them.
inline constexpr Fill kScoreCorrection{FillKind::uniform, -0.05, 0.05};

/// Depthwise convolution weights [channels, kernel, 1] that keep unit size.
Fill convolution(std::int64_t kernel);

/// Initial values of the state-space layers (Gu, Dao: Mamba, 2023, section 3.6 and its published code): A in [1, 16],
/// steps of 0.001 to 0.1, where trained models stay in the main.
inline constexpr Fill kDecay{FillKind::log_of_uniform, 1, 16};
inline constexpr Fill kStepBias{FillKind::softplus_inverse_of_log, 0.001, 0.1};

}  // namespace sluice::model::synth
