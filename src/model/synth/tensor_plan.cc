#include "model/synth/tensor_plan.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace sluice::model::synth {
namespace {

using kernels::Format;
using kernels::Mode;

/// E4M3 as MLX reads it: bias 7, no infinities.
double e4m3_value(int code) {
  const int exponent = code >> 3;
  const int mantissa = code & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

double e8m0_value(int code) { return std::ldexp(1.0, code - 127); }

/// Root mean square of the codes that are drawn, in units of the scale.
double code_rms(const Format& format) {
  switch (format.mode) {
    case Mode::affine:  // integers 0 to 2^bits - 1 about their mean
      return std::sqrt((std::pow(4.0, format.bits) - 1) / 12);
    case Mode::mxfp4:
    case Mode::nvfp4:  // 0, 0.5, 1, 1.5, 2, 3, 4, 6
      return std::sqrt(68.5 / 8);
    case Mode::mxfp8: {
      double sum = 0;
      for (int code = 0; code < 128; ++code) sum += std::pow(e4m3_value(std::min(code, 126)), 2);
      return std::sqrt(sum / 128);
    }
    default:  // not a mode that the converter writes
      return 1;
  }
}

/// Two neighbouring scale codes, mixed so that the mean square of the scales is `scale` squared. The smallest code
/// used is 1, though its value may be more than asked for: with 0, E4M3 would leave most groups empty.
Fill scale_codes(double (*value)(int), int largest, double scale) {
  int code = 1;
  while (code + 1 < largest && value(code + 1) <= scale) ++code;
  const double low = std::pow(value(code), 2);
  const double high = std::pow(value(code + 1), 2);
  return {FillKind::scale_codes, static_cast<double>(code), std::clamp((scale * scale - low) / (high - low), 0.0, 1.0)};
}

Fill uniform(double deviation) {
  const double half_width = deviation * std::sqrt(3.0);
  return {FillKind::uniform, -half_width, half_width};
}

std::vector<std::int64_t> dimensions(const MatrixShape& shape, std::int64_t cols) {
  return shape.stack > 0 ? std::vector<std::int64_t>{shape.stack, shape.rows, cols}
                         : std::vector<std::int64_t>{shape.rows, cols};
}

Quantization quantization_of(const nlohmann::json& config) {
  const nlohmann::json only = {{"quantization", config.at("quantization")}};
  return Quantization::from_config(Config::parse(only.dump(), "synthetic config.json"));
}

}  // namespace

TensorPlan::TensorPlan(const nlohmann::json& config, DType float_type)
    : float_type_(float_type), quantization_(quantization_of(config)) {}

void TensorPlan::matrix(const std::string& module, const MatrixShape& shape, double gain) {
  matrix_of_fan_in(module, shape, shape.cols, gain);
}

void TensorPlan::matrix_of_fan_in(const std::string& module, const MatrixShape& shape, std::int64_t fan_in,
                                  double gain) {
  weights(module, shape, gain / std::sqrt(static_cast<double>(fan_in)));
}

void TensorPlan::embedding(const std::string& module, std::int64_t vocabulary, std::int64_t hidden) {
  weights(module, {vocabulary, hidden}, 1);
}

void TensorPlan::weights(const std::string& module, const MatrixShape& shape, double deviation) {
  const std::optional<Format> format = quantization_.format(module, true);
  if (!format || shape.cols % format->group != 0) {
    parameter(module + ".weight", float_type_, dimensions(shape, shape.cols), uniform(deviation));
    return;
  }
  const std::string scales = module + ".scales";
  const std::vector<std::int64_t> groups = dimensions(shape, shape.cols / format->group);
  const double scale = deviation / code_rms(*format);
  parameter(module + ".weight", DType::u32, dimensions(shape, shape.cols * format->bits / 32),
            {format->mode == Mode::mxfp8 ? FillKind::e4m3_codes : FillKind::random_bits});
  if (format->mode != Mode::affine) {
    const bool e4m3 = format->mode == Mode::nvfp4;
    parameter(scales, DType::u8, groups, scale_codes(e4m3 ? e4m3_value : e8m0_value, e4m3 ? 126 : 254, scale));
    return;
  }
  const double magnitude = scale / affine_scale_rms();
  const double middle = (std::pow(2.0, format->bits) - 1) / 2;  // code that stands for zero
  add(scales, float_type_, groups, {FillKind::affine_scales, magnitude}, scales);
  add(module + ".biases", float_type_, groups, {FillKind::affine_biases, magnitude, middle}, scales);
}

void TensorPlan::raw_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  parameter(name, float_type_, {rows, cols}, uniform(1 / std::sqrt(static_cast<double>(cols))));
}

void TensorPlan::bias(const std::string& module, std::int64_t rows, std::int64_t stack) {
  // Beside outputs of unit size: felt, but no token's output is decided by it.
  const std::vector<std::int64_t> shape = stack > 0 ? std::vector{stack, rows} : std::vector{rows};
  parameter(module + ".bias", float_type_, shape, uniform(0.1));
}

void TensorPlan::norm(const std::string& module, std::int64_t size) {
  parameter(module + ".weight", float_type_, {size}, {FillKind::uniform, 0.9, 1.1});
}

void TensorPlan::parameter(const std::string& name, DType dtype, std::vector<std::int64_t> shape, const Fill& fill) {
  add(name, dtype, std::move(shape), fill, name);
}

void TensorPlan::add(std::string name, DType dtype, std::vector<std::int64_t> shape, const Fill& fill,
                     std::string random_name) {
  tensors_.push_back({{std::move(name), dtype, std::move(shape)}, fill, std::move(random_name)});
}

double residual_gain(int layers) { return 1 / std::sqrt(2.0 * layers); }

}  // namespace sluice::model::synth
