#include "kernels/delta_net.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/recurrent_support.h"
#include "kernels/vector.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

struct Case {
  DeltaShape shape;
  int hidden;
  int taps;
  Format format;
  bool per_key_head;  // in_proj as one matrix per key head, q k v z of each, and b a of each
};

/// A layer with random weights.
class Layer {
 public:
  explicit Layer(const Case& test)
      : shape(test.shape),
        hidden(test.hidden),
        in_(test.format, shape.channels() + shape.value_width() + 2 * shape.value_heads, hidden, 1),
        out_(test.format, hidden, shape.value_width(), 2) {
    Random random(3);
    const auto heads = static_cast<std::size_t>(shape.value_heads);
    conv_ = random.normal(static_cast<std::size_t>(test.taps * shape.channels()), 0.5F);
    dt_bias_ = random.normal(heads);
    a_log_ = random.normal(heads, 0.5F);
    norm_ = random.normal(static_cast<std::size_t>(shape.value_dim));
    int row = 0;
    const auto part = [&](int column, int count) {
      parts_.push_back({row_slice(in_.view(), row, count), column});
      row += count;
    };
    const int z = shape.channels(), b = z + shape.value_width(), a = b + shape.value_heads;
    if (test.per_key_head) {
      const int ratio = shape.value_heads / shape.key_heads;
      for (int head = 0; head < shape.key_heads; ++head) {
        part(head * shape.key_dim, shape.key_dim);
        part(shape.key_width() + head * shape.key_dim, shape.key_dim);
        part(2 * shape.key_width() + head * ratio * shape.value_dim, ratio * shape.value_dim);
        part(z + head * ratio * shape.value_dim, ratio * shape.value_dim);
        part(b + head * ratio, ratio);
        part(a + head * ratio, ratio);
      }
    } else {
      part(0, shape.channels());
      part(a, shape.value_heads);
      part(b, shape.value_heads);
      part(z, shape.value_width());
    }
    weights.in_proj = parts_;
    weights.conv = {test.taps, shape.channels(), conv_.data(), nullptr};
    weights.dt_bias = dt_bias_.data();
    weights.a_log = a_log_.data();
    weights.norm = norm_.data();
    weights.norm_eps = 1e-6F;
    weights.out_proj = out_.view();
  }

  /// q | k | v | z | b | a
  int projected() const { return shape.channels() + shape.value_width() + 2 * shape.value_heads; }
  TestState new_state() const { return {weights.conv, shape.value_width() * shape.key_dim}; }
  void step(const Context& context, const float* x, std::span<const RecurrentState> states, float* y,
            Workspace& workspace) const {
    delta_net(context, shape, weights, x, states, y, workspace);
  }
  Doubles naive(const std::vector<float>& x) const;
  std::vector<float> unfused(const Context& context, const std::vector<float>& x, TestState& state,
                             Workspace& workspace) const;

  DeltaShape shape;
  int hidden;
  DeltaNetWeights weights;

 private:
  TestMatrix in_, out_;
  std::vector<ProjectionPart> parts_;
  std::vector<float> conv_, dt_bias_, a_log_, norm_;
};

/// The delta rule in double precision: the memory of all heads, one position at a time.
class NaiveDelta {
 public:
  explicit NaiveDelta(const DeltaShape& shape)
      : shape_(shape), memory_(static_cast<std::size_t>(shape.value_width() * shape.key_dim)) {}

  /// decay(head, channel).
  template <typename Decay>
  Doubles step(const Doubles& qkv, const Doubles& beta, Decay decay) {
    Doubles y;
    for (int head = 0; head < shape_.value_heads; ++head) {
      const int key_head = head / (shape_.value_heads / shape_.key_heads);
      Doubles q = slice(qkv, key_head * shape_.key_dim, shape_.key_dim);
      Doubles k = slice(qkv, shape_.key_width() + key_head * shape_.key_dim, shape_.key_dim);
      normalize(q, 1e-6);
      normalize(k, 1e-6);
      for (double& value : q) value /= shape_.key_dim;
      for (double& value : k) value /= std::sqrt(shape_.key_dim);
      for (int row = 0; row < shape_.value_dim; ++row) {
        double* s = &memory_[static_cast<std::size_t>((head * shape_.value_dim + row) * shape_.key_dim)];
        double predicted = 0;
        for (std::size_t j = 0; j < k.size(); ++j) predicted += (s[j] *= decay(head, static_cast<int>(j))) * k[j];
        const double v = qkv[static_cast<std::size_t>(2 * shape_.key_width() + head * shape_.value_dim + row)];
        const double delta = (v - predicted) * beta[static_cast<std::size_t>(head)];
        double sum = 0;
        for (std::size_t j = 0; j < k.size(); ++j) sum += (s[j] += delta * k[j]) * q[j];
        y.push_back(sum);
      }
    }
    return y;
  }

 private:
  DeltaShape shape_;
  Doubles memory_;
};

Doubles Layer::naive(const std::vector<float>& x) const {
  const DeltaNetWeights& w = weights;
  NaiveDelta rule(shape);
  std::vector<Doubles> history;
  Doubles y;
  for (auto from = x.begin(); from != x.end(); from += hidden) {
    Doubles row(static_cast<std::size_t>(projected()));
    for (const ProjectionPart& part : w.in_proj) {
      const Doubles values = times(part.weights, {from, from + hidden});
      std::copy(values.begin(), values.end(), row.begin() + part.column);
    }
    history.push_back(slice(row, 0, shape.channels()));
    const int z = shape.channels(), b = z + shape.value_width(), a = b + shape.value_heads;
    Doubles beta, decay;
    for (int head = 0; head < shape.value_heads; ++head) {
      beta.push_back(sigmoid_of(row[static_cast<std::size_t>(b + head)]));
      const double step = softplus_of(row[static_cast<std::size_t>(a + head)] + static_cast<double>(w.dt_bias[head]));
      decay.push_back(std::exp(-std::exp(static_cast<double>(w.a_log[head])) * step));
    }
    Doubles out = rule.step(convolved(w.conv, history), beta,
                            [&](int head, int) { return decay[static_cast<std::size_t>(head)]; });
    for (int head = 0; head < shape.value_heads; ++head) {
      const auto width = static_cast<std::size_t>(shape.value_dim);
      normalize(std::span(out).subspan(static_cast<std::size_t>(head) * width, width), static_cast<double>(w.norm_eps));
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] *= static_cast<double>(w.norm[i % static_cast<std::size_t>(shape.value_dim)]) *
                silu_of(row[static_cast<std::size_t>(z) + i]);
    }
    out = times(w.out_proj, out);
    y.insert(y.end(), out.begin(), out.end());
  }
  return y;
}

std::vector<float> Layer::unfused(const Context& context, const std::vector<float>& x, TestState& state,
                                  Workspace& workspace) const {
  const DeltaNetWeights& w = weights;
  const int rows = static_cast<int>(x.size()) / hidden;
  const int stride = projected();
  const int z = shape.channels(), b = z + shape.value_width(), a = b + shape.value_heads;
  std::vector<float> columns(static_cast<std::size_t>(rows * stride));
  std::vector<Projection> in;
  for (const ProjectionPart& part : w.in_proj)
    in.push_back({&part.weights, &columns[static_cast<std::size_t>(part.column)], stride});
  matmul(context, x.data(), rows, in, workspace);
  const std::vector<RecurrentState> states(static_cast<std::size_t>(rows), state.get());
  causal_conv(context, w.conv, columns.data(), stride, states);
  for (int row = 0; row < rows; ++row) {
    float* at = &columns[static_cast<std::size_t>(row * stride)];
    sigmoid(context, at + b, shape.value_heads, at + b);
    decay_gates(context, at + a, 1, shape.value_heads, w.dt_bias, w.a_log);
  }
  std::vector<float> mixed(static_cast<std::size_t>(rows * shape.value_width())), y(x.size());
  delta_rule(context, shape,
             {states, columns.data(), stride, &columns[static_cast<std::size_t>(b)], stride,
              &columns[static_cast<std::size_t>(a)], stride, false},
             mixed.data());
  rms_norm(context, mixed.data(), rows * shape.value_heads, shape.value_dim, w.norm, w.norm_eps, mixed.data());
  for (int row = 0; row < rows; ++row) {
    float* at = &mixed[static_cast<std::size_t>(row * shape.value_width())];
    activate(context, Activation::swiglu, &columns[static_cast<std::size_t>(row * stride + z)], at, shape.value_width(),
             at);
  }
  const Projection out{&w.out_proj, y.data(), hidden};
  matmul(context, mixed.data(), rows, {&out, 1}, workspace);
  return y;
}

using DeltaNetTest = MixerTest<Layer>;
INSTANTIATE_TEST_SUITE_P(Isas, DeltaNetTest, testing::ValuesIn(supported_isas()), isa_name);

constexpr Format kAffine{Mode::affine, 4, 64, DType::bf16};
/// The shape of a real layer in small; value heads that are parts of, and several times, the groups of out_proj; and
/// widths that fill no vector.
const Case kCases[] = {{{2, 4, 32, 16}, 128, 4, kAffine, false},
                       {{2, 4, 16, 32}, 64, 4, kAffine, true},
                       {{3, 3, 16, 64}, 96, 2, {Mode::mxfp8, 8, 32, DType::u8}, true},
                       {{2, 6, 13, 11}, 20, 3, plain_format(DType::f32), true},
                       {{1, 1, 3, 5}, 7, 1, plain_format(DType::bf16), false}};

TEST_P(DeltaNetTest, MatchesDoublePrecision) { expect_matches_double_precision<Case>(kCases, 5e-6); }

TEST_P(DeltaNetTest, TheFusedStepHasTheBitsOfItsPieces) { expect_bits_of_its_pieces<Case>(kCases); }

TEST_P(DeltaNetTest, RowsAndThreadsDoNotChangeABit) { expect_rows_and_threads_change_no_bit<Case>(kCases); }

TEST_P(DeltaNetTest, HasTheBitsOfTheScalarReference) { expect_bits_of_scalar_reference<Case>(kCases); }

TEST_P(DeltaNetTest, AStepIsOneDispatch) { expect_one_dispatch_a_step(kCases[0]); }

TEST_P(DeltaNetTest, TheDeltaRuleTakesADecayPerChannel) {
  const DeltaShape shape{2, 4, 20, 11};
  constexpr int kRows = 7;
  Random random(5);
  const auto qkv = random.normal(static_cast<std::size_t>(kRows * shape.channels()));
  auto beta = random.normal(static_cast<std::size_t>(kRows * shape.value_heads));
  const int channels = shape.value_heads * shape.key_dim;
  auto decay = random.normal(static_cast<std::size_t>(kRows * channels));
  const auto bias = random.normal(static_cast<std::size_t>(channels));
  const auto a_log = random.normal(static_cast<std::size_t>(channels), 0.5F);

  NaiveDelta rule(shape);
  Doubles expected;
  for (int row = 0; row < kRows; ++row) {
    const auto one = rule.step(
        {qkv.begin() + row * shape.channels(), qkv.begin() + (row + 1) * shape.channels()},
        {beta.begin() + row * shape.value_heads, beta.begin() + (row + 1) * shape.value_heads}, [&](int head, int j) {
          const auto at = static_cast<std::size_t>(head * shape.key_dim + j);
          const double raw = decay[static_cast<std::size_t>(row * channels) + at];
          return std::exp(-std::exp(static_cast<double>(a_log[at])) * softplus_of(raw + bias[at]));
        });
    expected.insert(expected.end(), one.begin(), one.end());
  }

  decay_gates(context_, decay.data(), kRows, channels, bias.data(), a_log.data());
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads);
    std::vector<float> memory(static_cast<std::size_t>(shape.value_width() * shape.key_dim)), y(expected.size());
    const std::vector<RecurrentState> states(kRows, RecurrentState{nullptr, memory.data()});
    delta_rule({*GetParam(), team}, shape,
               {states, qkv.data(), shape.channels(), beta.data(), shape.value_heads, decay.data(), channels, true},
               y.data());
    EXPECT_LT(relative_error(y, expected), 1e-6);
  }
}

}  // namespace
}  // namespace sluice::kernels
