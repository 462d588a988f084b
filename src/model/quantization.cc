#include "model/quantization.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

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

void check_shape(const stream::Checkpoint& checkpoint, const stream::TensorInfo& tensor, std::int64_t rows,
                 std::int64_t cols, int stack) {
  std::vector<std::int64_t> expected{rows, cols};
  if (stack > 0) expected.insert(expected.begin(), stack);
  if (tensor.shape != expected) {
    fail("{}: tensor '{}' has shape [{}], expected [{}]",
         checkpoint.files()[static_cast<std::size_t>(tensor.file)].path.string(), tensor.name,
         fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
  }
}

[[noreturn]] void fail_dtype(const stream::Checkpoint& checkpoint, const stream::TensorInfo& tensor,
                             std::string_view expected) {
  fail("{}: tensor '{}' is {}, expected {}", checkpoint.files()[static_cast<std::size_t>(tensor.file)].path.string(),
       tensor.name, name_of(tensor.dtype), expected);
}

bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

}  // namespace

Quantization Quantization::from_config(const Config& config) {
  Quantization result;
  result.file_ = config.file();
  const char* key = config.has("quantization") ? "quantization" : "quantization_config";
  if (!config.has(key)) return result;
  const json& object = config.object().at(key);
  if (!object.is_object()) config.refuse(key, "an object");
  if (const auto method = object.find("quant_method"); method != object.end()) {
    fail("{}: '{}' has quant_method {}, which is not supported; convert the model to MLX form", config.file(), key,
         method->dump());
  }
  const std::string where = fmt::format("{}: '{}'", config.file(), key);
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

MatrixTensors find_matrix(const stream::Checkpoint& checkpoint, const Quantization& quantization,
                          const std::string& module, int rows, int cols, int stack) {
  MatrixTensors found;
  found.codes = &checkpoint.get(module + ".weight");
  const bool has_scales = checkpoint.find(module + ".scales") != nullptr;
  const std::optional<Format> format = quantization.format(module, has_scales);
  if (!format) {
    if (!is_float(found.codes->dtype)) fail_dtype(checkpoint, *found.codes, "F32, F16 or BF16 (it is not quantized)");
    found.format = kernels::plain_format(found.codes->dtype);
    check_shape(checkpoint, *found.codes, rows, cols, stack);
    return found;
  }
  found.format = *format;
  if (const std::string problem = kernels::format_problem(found.format, cols); !problem.empty()) {
    fail("{}: tensor '{}': {}", checkpoint.directory().string(), found.codes->name, problem);
  }
  if (found.codes->dtype != DType::u32) fail_dtype(checkpoint, *found.codes, "U32 (packed codes)");
  check_shape(checkpoint, *found.codes, rows, static_cast<std::int64_t>(cols) * found.format.bits / 32, stack);
  const std::int64_t groups = cols / found.format.group;
  found.scales = &checkpoint.get(module + ".scales");
  check_shape(checkpoint, *found.scales, rows, groups, stack);
  if (!kernels::has_biases(found.format)) {
    if (found.scales->dtype != DType::u8) fail_dtype(checkpoint, *found.scales, "U8");
    return found;
  }
  if (!is_float(found.scales->dtype)) fail_dtype(checkpoint, *found.scales, "F32, F16 or BF16");
  found.format.scale_type = found.scales->dtype;
  found.biases = &checkpoint.get(module + ".biases");
  check_shape(checkpoint, *found.biases, rows, groups, stack);
  if (found.biases->dtype != found.scales->dtype) {
    fail_dtype(checkpoint, *found.biases, fmt::format("{} as its scales are", name_of(found.scales->dtype)));
  }
  return found;
}

}  // namespace sluice::model
