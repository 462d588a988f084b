// The tensors of a synthetic checkpoint: what is called what, has which shape, and is filled with what.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/quantization.h"
#include "model/synth/fill.h"
#include "stream/safetensors_writer.h"

namespace sluice::model::synth {

struct PlannedTensor {
  stream::TensorHeader header;
  Fill fill;
  std::string random_name;  // names the random stream; biases share that of their scales
};

/// A matrix [rows, cols], or a stack of equal ones.
struct MatrixShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stack = 0;  // 0: no leading dimension
};

/// Collects tensors in the order of the module tree. Modules get the format that the "quantization" object of the
/// config and the MLX converter's rules give them: an override by path, else the top level, unless its group size does
/// not divide the columns.
///
/// Values are centred on zero and sized so that every layer sees and makes numbers of about unit size: a weight has
/// standard deviation gain / sqrt(fan-in), fan-in being the columns unless said otherwise.
class TensorPlan {
 public:
  /// `config` has a "quantization" object. `float_type`: of norms, scales and whatever else is not quantized; bf16, f16
  /// or f32.
  TensorPlan(const nlohmann::json& config, DType float_type);

  /// MODULE.weight, and .scales and .biases if it is quantized.
  void matrix(const std::string& module, const MatrixShape& shape, double gain = 1);
  void matrix_of_fan_in(const std::string& module, const MatrixShape& shape, std::int64_t fan_in, double gain = 1);
  /// A matrix that is a raw parameter to MLX and therefore never quantized, under its full name.
  void raw_matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  /// [rows], or [stack, rows]: what a biased module adds to its output.
  void bias(const std::string& module, std::int64_t rows, std::int64_t stack = 0);
  /// MODULE.weight of a normalization: ones, shaken a little.
  void norm(const std::string& module, std::int64_t size);
  /// Token embeddings: unit size, so that different tokens are different from the first layer on.
  void embedding(const std::string& module, std::int64_t vocabulary, std::int64_t hidden);
  /// Any other parameter, under its full name.
  void parameter(const std::string& name, DType dtype, std::vector<std::int64_t> shape, const Fill& fill);

  DType float_type() const { return float_type_; }
  std::vector<PlannedTensor> take() { return std::move(tensors_); }

 private:
  void weights(const std::string& module, const MatrixShape& shape, double deviation);
  void add(std::string name, DType dtype, std::vector<std::int64_t> shape, const Fill& fill, std::string random_name);

  DType float_type_;
  Quantization quantization_;
  std::vector<PlannedTensor> tensors_;
};

/// Factor for what a layer adds to the residual stream, so that the sum of `layers` layers with two blocks each stays
/// of unit size: 1 / sqrt(2 * layers), as GPT-2 starts (Radford et al. 2019, section 2.3).
double residual_gain(int layers);

}  // namespace sluice::model::synth
