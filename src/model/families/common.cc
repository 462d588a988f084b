#include "model/families/common.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "kernels/attention.h"

namespace sluice::model {

void require_silu(const Config& config) {
  if (config.string_or("hidden_act", "silu") != "silu") config.refuse("hidden_act", "\"silu\"");
}

void require_layers(const Config& config, const char* key, std::string_view kind) {
  for (const std::string& type : config.strings(key)) {
    if (type != kind) config.refuse(key, fmt::format("\"{}\" for every layer", kind));
  }
}

ModelSpec backbone(const Config& config, const std::string& prefix, bool tied) {
  ModelSpec spec;
  spec.model_type = config.string_or("model_type", "");
  spec.hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.vocabulary = config.integer("vocab_size", 1, kMaxVocabulary);
  spec.layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  spec.max_context = config.integer_or("max_position_embeddings", 32768, 1, kMaxContext);
  spec.norm_eps = static_cast<float>(config.number_or("rms_norm_eps", 1e-6, 0, 1));
  spec.embedding = prefix + "model.embed_tokens";
  spec.final_norm = {prefix + "model.norm.weight"};
  spec.head = config.boolean_or("tie_word_embeddings", tied) ? spec.embedding : prefix + "lm_head";
  return spec;
}

AttentionSpec grouped_attention(const Config& config, const std::string& module) {
  AttentionSpec spec;
  const int hidden = config.integer("hidden_size", 1, kMaxWidth);
  spec.heads = config.integer("num_attention_heads", 1, kMaxHeads);
  spec.kv_heads = config.integer_or("num_key_value_heads", spec.heads, 1, kMaxHeads);
  if (spec.heads % spec.kv_heads != 0) {
    config.refuse("num_key_value_heads", fmt::format("a divisor of num_attention_heads ({})", spec.heads));
  }
  spec.head_dim = config.integer_or("head_dim", std::max(1, hidden / spec.heads), 1, kernels::kMaxHeadDim);
  if (spec.head_dim % 2 != 0) config.refuse("head_dim", "an even number");
  spec.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)));
  spec.q = {module + ".q_proj"};
  spec.k = {module + ".k_proj"};
  spec.v = {module + ".v_proj"};
  spec.o = {module + ".o_proj"};
  return spec;
}

MlpSpec swiglu_mlp(const std::string& module, int width) {
  return {width, kernels::Activation::swiglu, {module + ".gate_proj"}, {module + ".up_proj"}, {module + ".down_proj"}};
}

std::vector<ExpertNames> switch_mlp_names(const std::string& module) {
  const std::string stacked = module + ".switch_mlp.";
  const std::string one = module + ".experts.{}.";
  return {{stacked + "gate_proj", stacked + "up_proj", stacked + "down_proj", "", GateUpRows::halves},
          {one + "gate_proj", one + "up_proj", one + "down_proj", "", GateUpRows::halves}};
}

std::vector<ExpertNames> block_sparse_names(const std::string& module) {
  std::vector<ExpertNames> names = switch_mlp_names(module);
  const std::string one = module + ".experts.{}.";
  names.push_back({one + "w1", one + "w3", one + "w2", "", GateUpRows::halves});
  return names;
}

RopeSpec plain_rope(int dims, double base, kernels::RopePairs pairs) {
  RopeSpec rope{{}, 1, pairs};
  for (int i = 0; i < dims / 2; ++i) rope.inv_freq.push_back(std::pow(base, -2.0 * i / dims));
  return rope;
}

namespace {

/// YaRN: dimensions that turn often within the original context keep their frequency, those that turn less than once
/// are slowed by `factor`, with a linear ramp between.
void apply_yarn(const Config& scaling, int dims, double base, RopeSpec& rope) {
  constexpr double kPi = 3.14159265358979323846;
  const double factor = scaling.number("factor", 1e-3, 1e6);
  const double original = scaling.number_or("original_max_position_embeddings", 4096, 1, kMaxContext);
  // The dimension that makes `turns` turns within the original context.
  const auto dimension = [&](double turns) {
    return dims * std::log(original / (2 * kPi * turns)) / (2 * std::log(base));
  };
  const double low = std::max(std::floor(dimension(scaling.number_or("beta_fast", 32, 1e-6, 1e6))), 0.0);
  double high = std::min(std::ceil(dimension(scaling.number_or("beta_slow", 1, 1e-6, 1e6))), dims - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < rope.inv_freq.size(); ++i) {
    const double keep = 1 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double period = 1 / rope.inv_freq[i];
    rope.inv_freq[i] = (factor * period * keep + period * (1 - keep)) / (factor * period * period);
  }
  const auto stretch = [&](double weight) { return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1; };
  rope.amplitude =
      stretch(scaling.number_or("mscale", 1, 0, 1e3)) / stretch(scaling.number_or("mscale_all_dim", 0, 0, 1e3));
  if (std::abs(scaling.number_or("attention_factor", rope.amplitude, 0, 1e3) - rope.amplitude) > 1e-6) {
    scaling.refuse("attention_factor", fmt::format("{}, which follows from the other keys", rope.amplitude));
  }
}

/// Long wavelengths are slowed by `factor`, short ones stay, with a linear blend between.
void apply_llama3(const Config& scaling, RopeSpec& rope) {
  constexpr double kPi = 3.14159265358979323846;
  const double factor = scaling.number("factor", 1e-3, 1e6);
  const double low = scaling.number_or("low_freq_factor", 1, 1e-6, 1e6);
  const double high = scaling.number_or("high_freq_factor", 4, 1e-6, 1e6);
  const double original = scaling.number_or("original_max_position_embeddings", 8192, 1, kMaxContext);
  if (high <= low) scaling.refuse("high_freq_factor", fmt::format("more than low_freq_factor ({})", low));
  for (double& inv_freq : rope.inv_freq) {
    const double turns = original * inv_freq / (2 * kPi);  // within the original context
    const double keep = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    inv_freq = inv_freq * (keep + (1 - keep) / factor);
  }
}

/// The key that names the type of scaling; files have either.
const char* type_key(const Config& scaling) { return scaling.has("type") ? "type" : "rope_type"; }

}  // namespace

RopeSpec scaled_rope(const Config& scaling, int dims, double base, kernels::RopePairs pairs) {
  RopeSpec rope = plain_rope(dims, base, pairs);
  const char* key = type_key(scaling);
  const std::string type = scaling.string_or(key, "default");
  if (type == "linear") {
    for (double& inv_freq : rope.inv_freq) inv_freq /= scaling.number("factor", 1e-3, 1e6);
  } else if (type == "yarn" || type == "deepseek_yarn") {
    apply_yarn(scaling, dims, base, rope);
  } else if (type == "llama3") {
    apply_llama3(scaling, rope);
  } else if (type != "default" &&
             type != "mrope") {  // mrope: three equal streams of positions where there is only text
    scaling.refuse(key, "\"default\", \"linear\", \"yarn\", \"deepseek_yarn\" or \"llama3\"");
  }
  return rope;
}

RotaryKeys rotary_keys(const Config& config, std::optional<double> default_base, double default_fraction) {
  RotaryKeys keys;
  std::optional<Config> parameters;
  if (config.has("rope_parameters")) parameters = config.child("rope_parameters");
  const auto number = [&](const char* key, std::optional<double> fallback, double low, double high) {
    const Config& source = parameters && parameters->has(key) ? *parameters : config;
    const double value = fallback ? source.number_or(key, *fallback, low, high) : source.number(key, low, high);
    if (config.has(key) && config.number(key, low, high) != value) {
      config.refuse(key, fmt::format("{} as in 'rope_parameters'", value));
    }
    return value;
  };
  keys.base = number("rope_theta", default_base, 1, 1e12);
  keys.fraction = number("partial_rotary_factor", default_fraction, 0, 1);
  if (config.has("rope_scaling")) {
    if (parameters) config.refuse("rope_scaling", "null beside 'rope_parameters'");
    keys.scaling = config.child("rope_scaling");
  } else {
    keys.scaling = parameters;
  }
  return keys;
}

RopeSpec rope(const Config& config, const RotaryKeys& keys, int head_dim) {
  const int dims = static_cast<int>(head_dim * keys.fraction);  // cut off, as the reference does
  if (dims % 2 != 0) config.refuse("partial_rotary_factor", "an even number of rotated dimensions");
  return keys.scaling ? scaled_rope(*keys.scaling, dims, keys.base) : plain_rope(dims, keys.base);
}

RopeSpec unscaled_rope(const Config& config, const RotaryKeys& keys, int head_dim, ModelSpec& spec) {
  RotaryKeys unscaled = keys;
  unscaled.scaling.reset();
  if (keys.scaling && keys.scaling->string_or(type_key(*keys.scaling), "default") != "default") {
    note_ignored(config, config.has("rope_scaling") ? "rope_scaling" : "rope_parameters", spec);
  }
  return rope(config, unscaled, head_dim);
}

void note_ignored(const Config& config, std::string_view key, ModelSpec& spec) {
  std::string notice = fmt::format("{}: '{}' is ignored, as the reference implementation does", config.file(), key);
  if (std::find(spec.notices.begin(), spec.notices.end(), notice) == spec.notices.end()) {
    spec.notices.push_back(std::move(notice));
  }
}

void check_groups(const Config& config, const char* key, const RouterSpec& router, int experts) {
  if (experts % router.groups != 0) config.refuse(key, fmt::format("a divisor of the number of experts ({})", experts));
  if (router.groups > 1 && experts / router.groups < 2) config.refuse(key, "groups of at least two experts");
}

RouterSpec corrected_sigmoid_router(const Config& config, const std::string& linear, const std::string& correction,
                                    int experts, int top_k) {
  RouterSpec router;
  router.linear = {linear};
  router.scoring = RouterScoring::sigmoid;
  router.correction = correction;
  router.groups = config.integer_or("n_group", 1, 1, experts);
  router.group_top_k = config.integer_or("topk_group", 1, 1, router.groups);
  check_groups(config, "n_group", router, experts);
  router.normalize = config.boolean_or("norm_topk_prob", true) && top_k > 1;
  router.scale = static_cast<float>(config.number_or("routed_scaling_factor", 1, 0, 1e6));
  router.ties = kernels::TieRule::lower_index;
  return router;
}

void add_decoder_layer(ModelSpec& spec, int layer, const std::string& name, OperationSpec mixer,
                       OperationSpec feed_forward, float norm_plus) {
  spec.blocks.push_back({layer, {name + ".input_layernorm.weight", norm_plus}, std::move(mixer)});
  spec.blocks.push_back({layer, {name + ".post_attention_layernorm.weight", norm_plus}, std::move(feed_forward)});
}

}  // namespace sluice::model
