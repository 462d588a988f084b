// The canonical arithmetic of docs/arithmetic.md in plain C++: the reference of every other instruction set.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/matmul_dequantize.h"
#include "kernels/matmul_kernels.h"

namespace sluice::kernels {
namespace {

constexpr int kLanes = 8;

ActivationLayout layout(const Format& format, int) { return {format.group, 1}; }

void quantize(const float* x, int cols, ActivationLayout layout, std::int16_t* codes, float* scales, float* sums) {
  for (int group = 0; group < cols / layout.group; ++group, x += layout.group, codes += layout.group) {
    // As integers, the magnitudes of floats are in order, with infinity and NaN above all numbers.
    std::uint32_t largest_bits = 0;
    for (int i = 0; i < layout.group; ++i) {
      largest_bits = std::max(largest_bits, std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFU);
    }
    const auto largest = std::bit_cast<float>(largest_bits);
    if (largest_bits == 0 || !std::isfinite(largest)) {
      std::fill_n(codes, layout.group, std::int16_t{0});
      scales[group] = largest_bits == 0 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
      sums[group] = 0.0F;
      continue;
    }
    // Tiny groups are first brought up by a power of two, or kActivationMax / largest would overflow.
    const float up = largest < 0x1p-96F ? 0x1p96F : 1.0F;
    const float inverse = kActivationMax / (largest * up);
    int sum = 0;
    for (int i = 0; i < layout.group; ++i) {
      codes[i] = static_cast<std::int16_t>(std::nearbyint((x[i] * up) * inverse));
      sum += codes[i];
    }
    scales[group] = largest / kActivationMax;
    sums[group] = static_cast<float>(sum);
  }
}

void int16_block(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  const int group_size = weights.format.group;
  const bool affine = is_affine(weights.format);
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < inputs; ++i) {
      float sum = 0.0F;
      for (int group = 0; group < weights.cols / group_size; ++group) {
        std::int32_t products = 0;
        for (int col = group * group_size; col < (group + 1) * group_size; ++col) {
          products += integer_weight(weights, row + r, col) * x[i].codes[col];
        }
        // Integer fp4 weights are doubled, so their scale is halved.
        const float scale = group_scale(weights, row + r, group) * (affine ? 1.0F : 0.5F);
        float term = scale * static_cast<float>(products);
        if (affine) term = std::fma(group_bias(weights, row + r, group), x[i].sums[group], term);
        sum = std::fma(x[i].scales[group], term, sum);
      }
      y[i][r] = sum;
    }
  }
}

void f32_block(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < inputs; ++i) {
      float lane[kLanes] = {};
      for (int col = 0; col < weights.cols; col += kLanes) {
        const int count = std::min(kLanes, weights.cols - col);
        float w[kLanes] = {};
        dequantize(weights, row + r, col, count, w);
        for (int j = 0; j < kLanes; ++j) lane[j] = std::fma(w[j], j < count ? x[i].x[col + j] : 0.0F, lane[j]);
      }
      y[i][r] = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    }
  }
}

void weighted_add(float weight, const float* x, std::int64_t n, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = std::fma(weight, x[i], y[i]);
}

}  // namespace

const MatmulKernels kMatmulScalar = {layout, quantize, int16_block, f32_block, dequantize, weighted_add};

}  // namespace sluice::kernels
