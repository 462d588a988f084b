// What the tests of recurrent mixers share: states, and pieces of naive models in double precision.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "kernels/matmul_support.h"
#include "kernels/recurrent.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {

using Doubles = std::vector<double>;

/// The state of one sequence, and its memory.
class TestState {
 public:
  TestState(const CausalConv& conv, int memory_floats)
      : conv_(static_cast<std::size_t>((conv.taps - 1) * conv.channels)),
        memory_(static_cast<std::size_t>(memory_floats)) {}
  RecurrentState get() { return {conv_.data(), memory_.data()}; }
  std::vector<std::uint32_t> bits() const {
    auto all = bits_of(conv_);
    const auto memory = bits_of(memory_);
    all.insert(all.end(), memory.begin(), memory.end());
    return all;
  }
  const std::vector<float>& memory() const { return memory_; }

 private:
  std::vector<float> conv_, memory_;
};

/// W x in double, for rows of W as they decode.
inline Doubles times(const MatrixView& view, const Doubles& x) {
  Doubles y;
  std::vector<float> w(static_cast<std::size_t>(view.cols));
  for (int row = 0; row < view.rows; ++row) {
    dequantize_row(view, row, w.data());
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(w[i]) * x[i];
    y.push_back(sum);
  }
  return y;
}

inline double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
inline double silu_of(double x) { return x * sigmoid_of(x); }
inline double softplus_of(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// x / sqrt(mean(x^2) + eps).
inline void normalize(std::span<double> x, double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  for (double& value : x) value /= std::sqrt(squares / static_cast<double>(x.size()) + eps);
}

/// silu(conv(x)) for a history of inputs of which the last is the newest.
inline Doubles convolved(const CausalConv& conv, const std::vector<Doubles>& history) {
  Doubles y;
  for (int c = 0; c < conv.channels; ++c) {
    double sum = conv.bias != nullptr ? static_cast<double>(conv.bias[c]) : 0;
    for (int j = 0; j < conv.taps; ++j) {
      const auto at = static_cast<std::ptrdiff_t>(history.size()) - conv.taps + j;
      if (at < 0) continue;
      sum += static_cast<double>(conv.weight[j * conv.channels + c]) *
             history[static_cast<std::size_t>(at)][static_cast<std::size_t>(c)];
    }
    y.push_back(silu_of(sum));
  }
  return y;
}

/// Elements [begin, begin + n).
inline Doubles slice(const Doubles& x, int begin, int n) { return {x.begin() + begin, x.begin() + begin + n}; }

}  // namespace sluice::kernels
