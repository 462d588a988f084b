// What the tests of recurrent mixers share: states, pieces of naive models in double precision, and the properties that
// every fused step has.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/matmul_dequantize.h"
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

/// W x plus the bias if there is one, in double, for rows of W as they decode.
inline Doubles times(const MatrixView& view, const Doubles& x) {
  Doubles y;
  std::vector<float> w(static_cast<std::size_t>(view.cols));
  for (int row = 0; row < view.rows; ++row) {
    dequantize_row(view, row, w.data());
    double sum = view.bias == nullptr ? 0 : load_float(view.bias + row * view.bias_stride, view.bias_type);
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

/// Tests of a fused step on every instruction set. `Layer` is a layer with random weights, made from a test case that
/// has a `format`; it has
///
///   hidden                            width of input and output
///   new_state()                       the TestState before the first position
///   step(context, x, states, y, workspace)   the kernel: x and y [states.size(), hidden]
///   naive(x)                          all rows of one sequence in double precision
///   unfused(context, x, state, workspace)    the same in dispatches of their own
template <typename Layer>
class MixerTest : public testing::TestWithParam<const Isa*> {
 protected:
  static std::vector<float> inputs(const Layer& layer, int rows) {
    return Random(4).normal(static_cast<std::size_t>(rows) * static_cast<std::size_t>(layer.hidden), 0.5F);
  }

  /// The output for all rows x of one sequence, `at_once` rows a call.
  std::vector<float> run(const Layer& layer, const Context& context, const std::vector<float>& x, TestState& state,
                         int at_once) {
    std::vector<float> y(x.size());
    const auto width = static_cast<std::size_t>(layer.hidden);
    const auto step = static_cast<std::size_t>(at_once);
    for (std::size_t row = 0; row < x.size() / width; row += step) {
      const std::vector<RecurrentState> states(std::min(step, x.size() / width - row), state.get());
      layer.step(context, &x[row * width], states, &y[row * width], workspace_);
    }
    return y;
  }

  template <typename Case>
  void expect_matches_double_precision(std::span<const Case> cases, double tolerance) {
    for (const Case& test : cases) {
      const Layer layer(test);
      const auto x = inputs(layer, 9);
      TestState state = layer.new_state(), rounded = layer.new_state();
      EXPECT_LT(relative_error(run(layer, exact_, x, state, 1), layer.naive(x)), tolerance) << to_string(test.format);
      EXPECT_LT(relative_error(run(layer, context_, x, rounded, 1), layer.naive(x)), 1e-3) << to_string(test.format);
    }
  }

  template <typename Case>
  void expect_bits_of_its_pieces(std::span<const Case> cases) {
    for (const Case& test : cases) {
      const Layer layer(test);
      const auto x = inputs(layer, 6);
      TestState fused = layer.new_state(), apart = layer.new_state();
      EXPECT_EQ(bits_of(run(layer, context_, x, fused, 1)), bits_of(layer.unfused(context_, x, apart, workspace_)))
          << to_string(test.format);
      EXPECT_EQ(fused.bits(), apart.bits());
    }
  }

  template <typename Case>
  void expect_rows_and_threads_change_no_bit(std::span<const Case> cases) {
    for (const Case& test : cases) {
      const Layer layer(test);
      const auto x = inputs(layer, 37);  // more than one call of a matrix kernel takes
      TestState one_by_one = layer.new_state();
      const auto expected = bits_of(run(layer, context_, x, one_by_one, 1));
      for (const int threads : {1, 2, 3}) {
        ThreadTeam team(threads);
        for (const int at_once : {1, 5, 37}) {
          TestState state = layer.new_state();
          EXPECT_EQ(bits_of(run(layer, {*GetParam(), team}, x, state, at_once)), expected)
              << to_string(test.format) << ", " << threads << " threads, " << at_once << " rows";
          EXPECT_EQ(state.bits(), one_by_one.bits());
        }
      }
    }
  }

  template <typename Case>
  void expect_bits_of_scalar_reference(std::span<const Case> cases) {
    const Context reference{all_isas().front(), alone_};
    for (const Case& test : cases) {
      const Layer layer(test);
      const auto x = inputs(layer, 5);
      TestState actual = layer.new_state(), expected = layer.new_state();
      EXPECT_EQ(bits_of(run(layer, context_, x, actual, 5)), bits_of(run(layer, reference, x, expected, 5)))
          << to_string(test.format);
      EXPECT_EQ(actual.bits(), expected.bits());
    }
  }

  template <typename Case>
  void expect_one_dispatch_a_step(const Case& test) {
    const Layer layer(test);
    ThreadTeam team(2);
    TestState state = layer.new_state();
    run(layer, {*GetParam(), team}, inputs(layer, 1), state, 1);
    EXPECT_EQ(team.dispatches(), 1U);
  }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
  Context exact_{*GetParam(), alone_, ActivationKind::f32};
  Workspace workspace_;
};

}  // namespace sluice::kernels
