// Which matrix of a checkpoint is stored in which format, by the rules of the MLX loader.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "kernels/format.h"
#include "model/config.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// The "quantization" object of a config: top-level values, and exceptions by module path.
class Quantization {
 public:
  /// Reads "quantization" (or "quantization_config" in MLX form). Throws Error naming the key for anything but
  /// affine, mxfp4, nvfp4 and mxfp8 with legal numbers.
  static Quantization from_config(const Config& config);

  /// The format of a module: an override of its path decides; else the top-level values if it has scales; else none
  /// (std::nullopt). Scale types are left to the caller, who sees the tensors.
  std::optional<kernels::Format> format(const std::string& module, bool has_scales) const;

 private:
  std::string file_;
  std::optional<kernels::Format> top_;
  std::map<std::string, std::optional<kernels::Format>, std::less<>> overrides_;  // nullopt: not quantized
};

/// The tensors of one matrix, or of a stack of equal matrices, found and checked.
struct MatrixTensors {
  kernels::Format format;
  const stream::TensorInfo* codes = nullptr;
  const stream::TensorInfo* scales = nullptr;  // null for plain
  const stream::TensorInfo* biases = nullptr;  // affine only
};

/// Finds MODULE.weight (and .scales, .biases) and checks dtypes and shapes: [rows, cols], or [stack, rows, cols] when
/// stack > 0, in packed form. Throws Error naming the tensor, what was found and what was expected.
MatrixTensors find_matrix(const stream::Checkpoint& checkpoint, const Quantization& quantization,
                          const std::string& module, int rows, int cols, int stack = 0);

}  // namespace sluice::model
