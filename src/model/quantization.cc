#include "model/quantization.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace sluice::model {

using kernels::Format;
using kernels::Mode;
using nlohmann::json;

namespace {

struct ModeDefaults {
  std::string_view name;
  Mode mode;
  std::uint8_t bits;
  std::uint16_t group;
};

/// Numbers a config may leave out.
constexpr ModeDefaults kModes[] = {{"affine", Mode::affine, 4, 64},
                                   {"mxfp4", Mode::mxfp4, 4, 32},
                                   {"nvfp4", Mode::nvfp4, 4, 16},
                                   {"mxfp8", Mode::mxfp8, 8, 32}};

/// A number that fits Format's narrow fields: no legal bits or group size is above 128.
int small_number(const json& object, const char* key, int fallback, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  constexpr std::int64_t kLargest = 128;
  const bool fits =
      found->is_number_integer() && found->get<std::int64_t>() >= 1 && found->get<std::int64_t>() <= kLargest;
  if (!fits) fail("{}: '{}' is {}, expected an integer from 1 to {}", where, key, found->dump(), kLargest);
  return found->get<int>();
}

/// One set of values. A dict without "mode" is affine, even inside a model of another mode.
Format parse_format(const json& object, const std::string& where) {
  std::string mode = "affine";
  if (const auto found = object.find("mode"); found != object.end() && !found->is_null()) {
    if (!found->is_string()) fail("{}: 'mode' is {}, expected a string", where, found->dump());
    mode = found->get<std::string>();
  }
  for (const ModeDefaults& known : kModes) {
    if (known.name != mode) continue;
    Format format{known.mode, static_cast<std::uint8_t>(small_number(object, "bits", known.bits, where)),
                  static_cast<std::uint16_t>(small_number(object, "group_size", known.group, where)),
                  known.mode == Mode::affine ? DType::bf16 : DType::u8};
    if (const std::string problem = kernels::format_problem(format, format.group); !problem.empty()) {
      fail("{}: {}", where, problem);
    }
    return format;
  }
  fail("{}: quantization mode '{}' is not supported; known modes: affine, mxfp4, nvfp4, mxfp8", where, printable(mode));
}

/// Throws Error unless weights that compressed-tensors packed are what Kimi-K2 ships: signed 4-bit codes in groups of
/// 32, each with a scale and no zero point.
void check_compressed_tensors(const json& object, const std::string& where) {
  const json empty = json::object();
  const auto at = [&](const json& in, const char* key) -> const json& {
    const auto found = in.find(key);
    return found != in.end() && found->is_object() ? *found : empty;
  };
  const json& weights = at(at(at(object, "config_groups"), "group_0"), "weights");
  const json expected = {
      {"num_bits", 4}, {"group_size", 32}, {"symmetric", true}, {"type", "int"}, {"actorder", nullptr}};
  for (const auto& [key, value] : expected.items()) {
    const json found = weights.value(key, json());
    if (found != value) {
      fail("{}: '{}' of compressed weights is {}, expected {}; convert the model to MLX form", where, key, found.dump(),
           value.dump());
    }
  }
}

/// Throws Error unless FP8 weights have a scale per block of 128 x 128 (if the config says so at all; the tensors do).
void check_fp8(const json& object, const std::string& where) {
  const json block = object.value("weight_block_size", json());
  if (!block.is_null() && block != json{128, 128}) {
    fail("{}: 'weight_block_size' is {}, expected [128, 128]; convert the model to MLX form", where, block.dump());
  }
}

}  // namespace

Quantization Quantization::from_config(const Config& config) {
  Quantization result;
  result.file_ = config.file();
  const char* key = config.has("quantization") ? "quantization" : "quantization_config";
  if (!config.has(key)) {
    const bool nested = config.has("text_config") && config.child("text_config").has("quantization_config");
    return nested ? from_config(config.child("text_config")) : result;
  }
  const json& object = config.child(key).object();
  const std::string where = fmt::format("{}: '{}'", config.file(), key);
  if (const auto method = object.find("quant_method"); method != object.end()) {
    if (*method == "compressed-tensors") {
      check_compressed_tensors(object, where);
    } else if (*method == "fp8") {
      check_fp8(object, where);
    } else if (*method != "mxfp4") {
      fail("{}: quant_method {} is not supported; convert the model to MLX form", where, method->dump());
    }
    return result;
  }
  if (object.value("quantize_activations", json(false)) != json(false)) {
    fail("{}: 'quantize_activations' is {}, expected false", where, object["quantize_activations"].dump());
  }
  result.top_ = parse_format(object, where);
  for (const auto& [path, value] : object.items()) {
    const std::string at = fmt::format("{} of '{}'", where, printable(path));
    if (value.is_object()) {
      result.overrides_[path] = parse_format(value, at);
    } else if (value.is_boolean()) {
      result.overrides_[path] = value.get<bool>() ? result.top_ : std::nullopt;
    }
  }
  return result;
}

std::optional<Format> Quantization::format(const std::string& module, bool has_scales) const {
  if (const auto found = overrides_.find(module); found != overrides_.end()) return found->second;
  if (!has_scales) return std::nullopt;
  if (!top_) fail("{}: '{}.scales' exists but the config has no 'quantization'", file_, module);
  return top_;
}

}  // namespace sluice::model
