#include "model/matrix_tensors.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "base/error.h"

namespace sluice::model {

using kernels::Format;
using kernels::Mode;
using stream::Checkpoint;
using stream::TensorInfo;

namespace {

using Shape = std::vector<std::int64_t>;

std::string file_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return checkpoint.files()[static_cast<std::size_t>(tensor.file)].path.string();
}

/// `shape`, with the stack in front if there is one.
void check_shape(const Checkpoint& checkpoint, const TensorInfo& tensor, Shape shape, int stack) {
  if (stack > 0) shape.insert(shape.begin(), stack);
  if (tensor.shape != shape) {
    fail("{}: tensor '{}' has shape [{}], expected [{}]", file_of(checkpoint, tensor), tensor.name,
         fmt::join(tensor.shape, ", "), fmt::join(shape, ", "));
  }
}

[[noreturn]] void fail_dtype(const Checkpoint& checkpoint, const TensorInfo& tensor, std::string_view expected) {
  fail("{}: tensor '{}' is {}, expected {}", file_of(checkpoint, tensor), tensor.name, name_of(tensor.dtype), expected);
}

void check_dtype(const Checkpoint& checkpoint, const TensorInfo& tensor, DType expected) {
  if (tensor.dtype != expected) fail_dtype(checkpoint, tensor, name_of(expected));
}

bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

void check_format(const Checkpoint& checkpoint, const Format& format, const TensorInfo& codes, int cols) {
  if (const std::string problem = kernels::format_problem(format, cols); !problem.empty()) {
    fail("{}: tensor '{}': {}", file_of(checkpoint, codes), codes.name, problem);
  }
}

MatrixTensors plain(const Checkpoint& checkpoint, const TensorInfo& weight, int rows, int cols, int stack) {
  if (!is_float(weight.dtype)) fail_dtype(checkpoint, weight, "F32, F16 or BF16 (it is not quantized)");
  check_shape(checkpoint, weight, {rows, cols}, stack);
  return {kernels::plain_format(weight.dtype), &weight};
}

MatrixTensors mlx(const Checkpoint& checkpoint, const Format& format, const std::string& path, int rows, int cols,
                  int stack) {
  MatrixTensors found{format, &checkpoint.get(path + ".weight")};
  check_format(checkpoint, format, *found.codes, cols);
  if (found.codes->dtype != DType::u32) fail_dtype(checkpoint, *found.codes, "U32 (packed codes)");
  check_shape(checkpoint, *found.codes, {rows, std::int64_t{cols} * format.bits / 32}, stack);
  const std::int64_t groups = cols / format.group;
  found.scales = &checkpoint.get(path + ".scales");
  check_shape(checkpoint, *found.scales, {rows, groups}, stack);
  if (!kernels::has_biases(format)) {
    check_dtype(checkpoint, *found.scales, DType::u8);
    return found;
  }
  if (!is_float(found.scales->dtype)) fail_dtype(checkpoint, *found.scales, "F32, F16 or BF16");
  found.format.scale_type = found.scales->dtype;
  found.biases = &checkpoint.get(path + ".biases");
  check_shape(checkpoint, *found.biases, {rows, groups}, stack);
  if (found.biases->dtype != found.scales->dtype) {
    fail_dtype(checkpoint, *found.biases, fmt::format("{} as its scales are", name_of(found.scales->dtype)));
  }
  return found;
}

MatrixTensors gpt_oss_blocks(const Checkpoint& checkpoint, const TensorInfo& blocks, const std::string& path, int rows,
                             int cols, int stack) {
  const Format format{Mode::mxfp4, 4, 32, DType::u8};
  MatrixTensors found{format, &blocks, &checkpoint.get(path + "_scales")};
  check_format(checkpoint, format, blocks, cols);
  for (const TensorInfo* tensor : {found.codes, found.scales}) check_dtype(checkpoint, *tensor, DType::u8);
  check_shape(checkpoint, blocks, {rows, cols / 32, 16}, stack);
  check_shape(checkpoint, *found.scales, {rows, cols / 32}, stack);
  return found;
}

MatrixTensors fp8_blocks(const Checkpoint& checkpoint, const TensorInfo& weight, const TensorInfo& scales, int rows,
                         int cols, int stack) {
  const Format format{Mode::fp8_block, 8, 128, scales.dtype};
  if (!is_float(scales.dtype)) fail_dtype(checkpoint, scales, "F32, F16 or BF16");
  check_dtype(checkpoint, weight, DType::f8_e4m3);
  check_shape(checkpoint, weight, {rows, cols}, stack);
  check_shape(checkpoint, scales, {(rows + 127) / 128, (cols + 127) / 128}, stack);
  return {format, &weight, &scales};
}

MatrixTensors compressed(const Checkpoint& checkpoint, const TensorInfo& packed, const TensorInfo& scales, int rows,
                         int cols, int stack) {
  if (!is_float(scales.dtype)) fail_dtype(checkpoint, scales, "F32, F16 or BF16");
  const Format format{Mode::symmetric, 4, 32, scales.dtype};
  check_format(checkpoint, format, packed, cols);
  check_dtype(checkpoint, packed, DType::i32);
  check_shape(checkpoint, packed, {rows, cols / 8}, stack);
  check_shape(checkpoint, scales, {rows, cols / 32}, stack);
  return {format, &packed, &scales};
}

/// The matrix without its bias.
MatrixTensors find_weights(const Checkpoint& checkpoint, const Quantization& quantization, const std::string& path,
                           int rows, int cols, int stack, const std::string& format_path) {
  if (const TensorInfo* blocks = checkpoint.find(path + "_blocks")) {
    return gpt_oss_blocks(checkpoint, *blocks, path, rows, cols, stack);
  }
  if (const TensorInfo* bare = checkpoint.find(path)) return plain(checkpoint, *bare, rows, cols, stack);
  if (const TensorInfo* scales = checkpoint.find(path + ".weight_scale_inv")) {
    return fp8_blocks(checkpoint, checkpoint.get(path + ".weight"), *scales, rows, cols, stack);
  }
  if (const TensorInfo* packed = checkpoint.find(path + ".weight_packed")) {
    return compressed(checkpoint, *packed, checkpoint.get(path + ".weight_scale"), rows, cols, stack);
  }
  const bool has_scales = checkpoint.find(path + ".scales") != nullptr;
  if (const auto format = quantization.format(format_path.empty() ? path : format_path, has_scales)) {
    return mlx(checkpoint, *format, path, rows, cols, stack);
  }
  return plain(checkpoint, checkpoint.get(path + ".weight"), rows, cols, stack);
}

}  // namespace

bool has_matrix(const Checkpoint& checkpoint, const std::string& path) {
  for (const char* suffix : {".weight", ".weight_packed", "_blocks", ""}) {
    if (checkpoint.find(path + suffix) != nullptr) return true;
  }
  return false;
}

MatrixTensors find_matrix(const Checkpoint& checkpoint, const Quantization& quantization, const LinearSpec& linear,
                          int rows, int cols, int stack, const std::string& format_path) {
  MatrixTensors found = find_weights(checkpoint, quantization, linear.path, rows, cols, stack, format_path);
  if (linear.bias) {
    const TensorInfo* joined = checkpoint.find(linear.path + "_bias");
    found.bias = joined != nullptr ? joined : &checkpoint.get(linear.path + ".bias");
    if (!is_float(found.bias->dtype)) fail_dtype(checkpoint, *found.bias, "F32, F16 or BF16");
    check_shape(checkpoint, *found.bias, {rows}, stack);
  }
  return found;
}

}  // namespace sluice::model
