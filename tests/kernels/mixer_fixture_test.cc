// Recurrent mixers against values of the reference implementation: the first layer of small models, 12 positions of
// prefill and one of decode, with the states after the prefill. Weights as they are stored; x is the normed input.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/delta_net.h"
#include "kernels/mamba2.h"
#include "kernels/quant_fixture.h"
#include "kernels/recurrent_support.h"
#include "kernels/vector.h"

namespace sluice::kernels {
namespace {

constexpr int kHidden = 128;
constexpr int kPrefill = 12;

/// The reference computes in f32 with another order of summation.
constexpr double kTolerance = 3e-6;

class MixerFixture : public QuantFixture {
 public:
  MixerFixture(const std::string& file, Format format) : QuantFixture(file), format_(format) {}

  MatrixView matrix(const std::string& name) const {
    const int rows = shape(name + ".weight")[0];
    const int cols = shape(name + ".weight")[1] * 32 / format_.bits;
    return make_view(format_, rows, cols, data(name + ".weight"), data(name + ".scales"), data(name + ".biases"));
  }
  std::vector<float> floats(const std::string& name) const { return values<float>(name); }

 private:
  Format format_;
};

class MixerFixtureTest : public testing::TestWithParam<const Isa*> {
 protected:
  ThreadTeam team_{2};
  Context context_{*GetParam(), team_, ActivationKind::f32};
  Workspace workspace_;
};

INSTANTIATE_TEST_SUITE_P(Isas, MixerFixtureTest, testing::ValuesIn(supported_isas()), isa_name);

/// Runs step(x, states, y) over the prefill and the decode of a fixture and compares outputs and state.
template <typename Step>
void expect_reference(const MixerFixture& fixture, Step step) {
  const auto x = fixture.floats("x");
  const auto expected_conv = fixture.floats("conv_state");
  const auto expected_memory = fixture.floats("memory");
  std::vector<float> conv(expected_conv.size()), memory(expected_memory.size()), y(x.size());
  const RecurrentState state{conv.data(), memory.data()};
  const std::vector<RecurrentState> prefill(kPrefill, state);
  step(x.data(), std::span(prefill), y.data());
  EXPECT_LT(relative_error(conv, expected_conv), kTolerance);
  EXPECT_LT(relative_error(memory, expected_memory), kTolerance);
  step(&x[kPrefill * kHidden], std::span(&state, 1), &y[kPrefill * kHidden]);
  EXPECT_LT(relative_error(y, fixture.floats("y")), kTolerance);
}

TEST_P(MixerFixtureTest, Mamba2IsThatOfNemotron) {
  const MixerFixture fixture("mamba2_nemotron_h.safetensors", {Mode::affine, 4, 64, DType::bf16});
  const Mamba2Shape shape{8, 16, 2, 32};
  const auto conv = fixture.floats("conv1d.weight"), conv_bias = fixture.floats("conv1d.bias"),
             dt_bias = fixture.floats("dt_bias"), a_log = fixture.floats("A_log"), d = fixture.floats("D"),
             norm = fixture.floats("norm.weight");
  Mamba2Weights weights;
  weights.in_proj = fixture.matrix("in_proj");
  weights.conv = {4, shape.channels(), conv.data(), conv_bias.data()};
  weights.dt_bias = dt_bias.data();
  weights.a_log = a_log.data();
  weights.d = d.data();
  weights.norm = norm.data();
  weights.norm_eps = 1e-5F;
  weights.out_proj = fixture.matrix("out_proj");
  expect_reference(fixture, [&](const float* x, std::span<const RecurrentState> states, float* y) {
    mamba2(context_, shape, weights, x, states, y, workspace_);
  });
}

TEST_P(MixerFixtureTest, GatedDeltaNetIsThatOfQwen35) {
  const MixerFixture fixture("delta_net_qwen3_5.safetensors", {Mode::affine, 8, 32, DType::bf16});
  const DeltaShape shape{2, 4, 32, 16};
  const auto conv = fixture.floats("conv1d.weight"), dt_bias = fixture.floats("dt_bias"),
             a_log = fixture.floats("A_log"), norm = fixture.floats("norm.weight");
  const int z = shape.channels(), b = z + shape.value_width(), a = b + shape.value_heads;
  const ProjectionPart parts[] = {{fixture.matrix("in_proj_qkv"), 0},
                                  {fixture.matrix("in_proj_z"), z},
                                  {fixture.matrix("in_proj_b"), b},
                                  {fixture.matrix("in_proj_a"), a}};
  DeltaNetWeights weights;
  weights.in_proj = parts;
  weights.conv = {4, shape.channels(), conv.data(), nullptr};
  weights.dt_bias = dt_bias.data();
  weights.a_log = a_log.data();
  weights.norm = norm.data();
  weights.norm_eps = 1e-6F;
  weights.out_proj = fixture.matrix("out_proj");
  expect_reference(fixture, [&](const float* x, std::span<const RecurrentState> states, float* y) {
    delta_net(context_, shape, weights, x, states, y, workspace_);
  });
}

/// Not one fused step: the decay and the output gate are projections of projections. Its pieces are the same.
TEST_P(MixerFixtureTest, KimiDeltaAttentionIsMadeOfTheSamePieces) {
  const MixerFixture fixture("kda_kimi_linear.safetensors", {Mode::affine, 4, 32, DType::bf16});
  const DeltaShape shape{4, 4, 32, 32};
  const int width = shape.value_width();
  const auto dt_bias = fixture.floats("dt_bias"), norm = fixture.floats("o_norm.weight");
  std::vector<float> a_log, conv;  // per channel; [taps, q | k | v]
  for (const float per_head : fixture.floats("A_log")) a_log.insert(a_log.end(), 32, per_head);
  for (int tap = 0; tap < 4; ++tap) {
    for (const char* name : {"q_conv.conv.weight", "k_conv.conv.weight", "v_conv.conv.weight"}) {
      const auto part = fixture.floats(name);
      conv.insert(conv.end(), part.begin() + tap * width, part.begin() + (tap + 1) * width);
    }
  }
  const auto project = [&](const char* name, const float* x, int rows, float* y, std::int64_t stride) {
    const MatrixView view = fixture.matrix(name);
    const Projection projection{&view, y, stride};
    matmul(context_, x, rows, {&projection, 1}, workspace_);
  };

  expect_reference(fixture, [&](const float* x, std::span<const RecurrentState> states, float* y) {
    const auto rows = static_cast<int>(states.size());
    const auto floats = [&](int columns) { return std::vector<float>(static_cast<std::size_t>(rows * columns)); };
    auto qkv = floats(3 * width), low = floats(32), decay = floats(width), gate = floats(width), beta = floats(4),
         mixed = floats(width);
    project("q_proj", x, rows, qkv.data(), 3 * width);
    project("k_proj", x, rows, &qkv[static_cast<std::size_t>(width)], 3 * width);
    project("v_proj", x, rows, &qkv[static_cast<std::size_t>(2 * width)], 3 * width);
    project("f_a_proj", x, rows, low.data(), 32);
    project("f_b_proj", low.data(), rows, decay.data(), width);
    project("g_a_proj", x, rows, low.data(), 32);
    project("g_b_proj", low.data(), rows, gate.data(), width);
    project("b_proj", x, rows, beta.data(), 4);
    causal_conv(context_, {4, 3 * width, conv.data(), nullptr}, qkv.data(), 3 * width, states);
    decay_gates(context_, decay.data(), rows, width, dt_bias.data(), a_log.data());
    sigmoid(context_, beta.data(), rows * 4, beta.data());
    delta_rule(context_, shape, {states, qkv.data(), 3 * width, beta.data(), 4, decay.data(), width, true},
               mixed.data());
    rms_norm(context_, mixed.data(), rows * 4, 32, norm.data(), 1e-6F, mixed.data());
    sigmoid_glu(context_, gate.data(), mixed.data(), rows * width, mixed.data());
    project("o_proj", mixed.data(), rows, y, kHidden);
  });
}

}  // namespace
}  // namespace sluice::kernels
