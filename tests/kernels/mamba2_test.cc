#include "kernels/mamba2.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/recurrent_support.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

struct Case {
  Mamba2Shape shape;
  int hidden;
  int taps;
  Format format;
  bool biases;  // of the projections
};

/// A layer with random weights.
class Layer {
 public:
  explicit Layer(const Case& test)
      : shape(test.shape),
        hidden(test.hidden),
        in_(test.format, shape.projected(), hidden, 1),
        out_(test.format, hidden, shape.inner(), 2) {
    Random random(3);
    const auto channels = static_cast<std::size_t>(shape.channels());
    const auto heads = static_cast<std::size_t>(shape.heads);
    conv_ = random.normal(static_cast<std::size_t>(test.taps) * channels, 0.5F);
    conv_bias_ = random.normal(channels, 0.1F);
    dt_bias_ = random.normal(heads);
    a_log_ = random.normal(heads, 0.5F);
    d_ = random.normal(heads);
    norm_ = random.normal(static_cast<std::size_t>(shape.inner()));
    weights.in_proj = test.biases ? in_.add_bias(DType::bf16, 5) : in_.view();
    weights.conv = {test.taps, shape.channels(), conv_.data(), test.biases ? conv_bias_.data() : nullptr};
    weights.dt_bias = dt_bias_.data();
    weights.a_log = a_log_.data();
    weights.d = d_.data();
    weights.dt_low = 0.1F;
    weights.dt_high = 2.5F;
    weights.norm = norm_.data();
    weights.norm_eps = 1e-5F;
    weights.out_proj = test.biases ? out_.add_bias(DType::f32, 6) : out_.view();
  }

  TestState new_state() const { return {weights.conv, shape.inner() * shape.state}; }
  void step(const Context& context, const float* x, std::span<const RecurrentState> states, float* y,
            Workspace& workspace) const {
    mamba2(context, shape, weights, x, states, y, workspace);
  }
  Doubles naive(const std::vector<float>& x) const;
  std::vector<float> unfused(const Context& context, const std::vector<float>& x, TestState& state,
                             Workspace& workspace) const;

  Mamba2Shape shape;
  int hidden;
  Mamba2Weights weights;

 private:
  TestMatrix in_, out_;
  std::vector<float> conv_, conv_bias_, dt_bias_, a_log_, d_, norm_;
};

Doubles Layer::naive(const std::vector<float>& x) const {
  const Mamba2Weights& w = weights;
  const int inner = shape.inner();
  std::vector<Doubles> history;
  Doubles memory(static_cast<std::size_t>(inner * shape.state)), y;
  for (auto from = x.begin(); from != x.end(); from += hidden) {
    Doubles projected = times(w.in_proj, {from, from + hidden});
    history.push_back(slice(projected, inner, shape.channels()));
    const Doubles xbc = convolved(w.conv, history);
    Doubles out(static_cast<std::size_t>(inner));
    for (int head = 0; head < shape.heads; ++head) {
      const int group = head / (shape.heads / shape.groups);
      const double raw = projected[static_cast<std::size_t>(inner + shape.channels() + head)];
      const double dt = std::clamp<double>(softplus_of(raw + w.dt_bias[head]), w.dt_low, w.dt_high);
      const double decay = std::exp(-std::exp(static_cast<double>(w.a_log[head])) * dt);
      for (int p = 0; p < shape.head_dim; ++p) {
        const auto at = static_cast<std::size_t>(head * shape.head_dim + p);
        double sum = static_cast<double>(w.d[head]) * xbc[at];
        for (int n = 0; n < shape.state; ++n) {
          double& h = memory[at * static_cast<std::size_t>(shape.state) + static_cast<std::size_t>(n)];
          const auto b = static_cast<std::size_t>(inner + group * shape.state + n);
          h = decay * h + dt * xbc[at] * xbc[b];
          sum += h * xbc[b + static_cast<std::size_t>(shape.groups * shape.state)];
        }
        out[at] = silu_of(projected[at]) * sum;
      }
    }
    const int width = inner / shape.groups;
    for (int group = 0; group < shape.groups; ++group) {
      normalize(std::span(out).subspan(static_cast<std::size_t>(group * width), static_cast<std::size_t>(width)),
                static_cast<double>(w.norm_eps));
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= static_cast<double>(w.norm[i]);
    out = times(w.out_proj, out);
    y.insert(y.end(), out.begin(), out.end());
  }
  return y;
}

std::vector<float> Layer::unfused(const Context& context, const std::vector<float>& x, TestState& state,
                                  Workspace& workspace) const {
  const Mamba2Weights& w = weights;
  const VectorKernels& vector = *context.isa.vector;
  std::vector<float> y(x.size()), row(static_cast<std::size_t>(shape.projected()));
  std::vector<float> decay(static_cast<std::size_t>(shape.heads));
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(hidden)) {
    const Projection in{&w.in_proj, row.data(), shape.projected()};
    matmul(context, &x[at], 1, {&in, 1}, workspace);
    float* xbc = &row[static_cast<std::size_t>(shape.inner())];
    float* dt = xbc + shape.channels();
    const RecurrentState memory = state.get();
    causal_conv(context, w.conv, xbc, shape.projected(), {&memory, 1});
    vector.decay(dt, w.dt_bias, w.a_log, w.dt_low, w.dt_high, shape.heads, decay.data());
    for (int head = 0; head < shape.heads; ++head) {
      const float* b = xbc + shape.inner() + head / (shape.heads / shape.groups) * shape.state;
      vector.ssm_step({memory.memory + head * shape.head_dim * shape.state, shape.head_dim, shape.state,
                       decay[static_cast<std::size_t>(head)], dt[head], w.d[head], b, b + shape.groups * shape.state,
                       xbc + head * shape.head_dim});
    }
    vector.swiglu(row.data(), xbc, shape.inner(), xbc);
    const int width = shape.inner() / shape.groups;
    for (int group = 0; group < shape.inner(); group += width) {
      vector.rms_norm(xbc + group, width, w.norm + group, w.norm_eps, xbc + group);
    }
    const Projection out{&w.out_proj, &y[at], hidden};
    matmul(context, xbc, 1, {&out, 1}, workspace);
  }
  return y;
}

using Mamba2Test = MixerTest<Layer>;
INSTANTIATE_TEST_SUITE_P(Isas, Mamba2Test, testing::ValuesIn(supported_isas()), isa_name);

constexpr Format kAffine{Mode::affine, 4, 64, DType::bf16};
/// The shape of a real layer in small; norm groups that are parts of, and several times, the groups of out_proj; and
/// widths that fill no vector.
const Case kCases[] = {{{8, 16, 2, 32}, 128, 4, kAffine, false},
                       {{8, 16, 4, 16}, 64, 4, kAffine, true},
                       {{6, 32, 1, 8}, 96, 2, {Mode::mxfp8, 8, 32, DType::u8}, false},
                       {{6, 11, 3, 13}, 20, 3, plain_format(DType::f32), true},
                       {{2, 3, 1, 5}, 7, 1, plain_format(DType::bf16), false}};

TEST_P(Mamba2Test, MatchesDoublePrecision) { expect_matches_double_precision<Case>(kCases, 3e-6); }

TEST_P(Mamba2Test, TheFusedStepHasTheBitsOfItsPieces) { expect_bits_of_its_pieces<Case>(kCases); }

TEST_P(Mamba2Test, RowsAndThreadsDoNotChangeABit) { expect_rows_and_threads_change_no_bit<Case>(kCases); }

TEST_P(Mamba2Test, HasTheBitsOfTheScalarReference) { expect_bits_of_scalar_reference<Case>(kCases); }

TEST_P(Mamba2Test, AStepIsOneDispatch) { expect_one_dispatch_a_step(kCases[0]); }

TEST_P(Mamba2Test, SequencesInOneCallDoNotMeet) {
  const Layer layer(kCases[0]);
  const auto x = inputs(layer, 6);
  const auto width = static_cast<std::size_t>(layer.hidden);
  TestState a = layer.new_state(), b = layer.new_state();
  const std::vector<RecurrentState> states{a.get(), a.get(), b.get(), a.get(), b.get(), b.get()};
  std::vector<float> y(x.size());
  mamba2(context_, layer.shape, layer.weights, x.data(), states, y.data(), workspace_);

  TestState alone = layer.new_state();
  for (const std::size_t row : {0, 1, 3}) {
    const std::vector<float> x_row(x.begin() + static_cast<std::ptrdiff_t>(row * width),
                                   x.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
    const std::vector<float> y_row(y.begin() + static_cast<std::ptrdiff_t>(row * width),
                                   y.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
    EXPECT_EQ(run(layer, context_, x_row, alone, 1), y_row);
  }
  EXPECT_EQ(a.bits(), alone.bits());
  EXPECT_NE(a.bits(), b.bits());
}

TEST_P(Mamba2Test, NoRowsIsNothingToDo) {
  const Layer layer(kCases[0]);
  mamba2(context_, layer.shape, layer.weights, nullptr, {}, nullptr, workspace_);
  EXPECT_EQ(alone_.dispatches(), 0U);
}

}  // namespace
}  // namespace sluice::kernels
