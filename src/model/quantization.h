// What config.json says of the formats of matrices, by the rules of the MLX loader.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "kernels/format.h"
#include "model/config.h"

namespace sluice::model {

/// The "quantization" object of a config: top-level values, and exceptions by module path.
class Quantization {
 public:
  /// Reads "quantization", or "quantization_config", also inside "text_config". MLX form: affine, mxfp4, nvfp4 and
  /// mxfp8. Other methods are told by the names of their tensors (matrix_tensors.h), if they are fp8, mxfp4 or 4-bit
  /// compressed-tensors. Throws Error naming the key for anything else.
  static Quantization from_config(const Config& config);

  /// The format of a module: an override of its path decides; else the top-level values if it has scales; else none
  /// (std::nullopt). Scale types are left to the caller, who sees the tensors.
  std::optional<kernels::Format> format(const std::string& module, bool has_scales) const;

 private:
  std::string file_;
  std::optional<kernels::Format> top_;
  std::map<std::string, std::optional<kernels::Format>, std::less<>> overrides_;  // nullopt: not quantized
};

}  // namespace sluice::model
