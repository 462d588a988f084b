// Three ways through a MoE layer, one result: each product alone, gathered, fused.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/matmul_support.h"
#include "kernels/vector.h"

namespace sluice::kernels {
namespace {

constexpr int kExperts = 5;

constexpr Activation kActivations[] = {Activation::swiglu, Activation::gelu_tanh_glu, Activation::clamped_swiglu,
                                       Activation::relu2};

/// A table of experts in one format, with Linear biases of every type. Widths are legal for the format, but odd
/// otherwise; the experts give rows of another width than they take, as latent ones may.
struct Layer {
  Layer(const Format& format, const Format& down_format)
      : Layer(format, down_format, width(format, 3), width(down_format, 5), width(format, 3) + 11, kExperts) {}

  Layer(const Format& format, const Format& down_format, int in_width, int inner_width, int out_width, unsigned experts)
      : in(in_width), inner(inner_width), out(out_width) {
    for (unsigned e = 0; e < experts; ++e) {
      matrices.push_back(std::make_unique<TestMatrix>(format, inner, in, 100 + e));
      matrices.push_back(std::make_unique<TestMatrix>(format, inner, in, 200 + e));
      matrices.push_back(std::make_unique<TestMatrix>(down_format, out, inner, 300 + e));
      gate.push_back(matrices[3 * e]->add_bias(DType::f32, 400 + e));
      up.push_back(matrices[3 * e + 1]->add_bias(DType::bf16, 500 + e));
      down.push_back(matrices[3 * e + 2]->add_bias(DType::f16, 600 + e));
    }
  }

  /// Small, since the scalar reference computes it too, but more than one group.
  static int width(const Format& format, int groups) {
    if (format.mode == Mode::fp8_block) return 128 + 8 * groups + 3;
    return format.group == 0 ? 8 * groups + 4 : format.group * (format.group > 32 ? 2 : groups);
  }

  /// The gates as `activation` wants them.
  std::span<const MatrixView> gates(Activation activation) const {
    return is_gated(activation) ? std::span(gate) : std::span<const MatrixView>();
  }
  ExpertViews expert(std::size_t e, Activation activation) const {
    return {is_gated(activation) ? gate[e] : MatrixView(), up[e], down[e]};
  }

  int in;
  int inner;
  int out;
  std::vector<std::unique_ptr<TestMatrix>> matrices;
  std::vector<MatrixView> gate;
  std::vector<MatrixView> up;
  std::vector<MatrixView> down;
};

std::vector<float> row_of(const std::vector<float>& values, int row, int width) {
  return {values.begin() + row * width, values.begin() + (row + 1) * width};
}

/// activation(gate x, up x) for one row, each step on its own.
std::vector<float> activated_apart(const Context& context, const Layer& layer, std::size_t expert,
                                   Activation activation, const std::vector<float>& x) {
  auto y = product(context, layer.up[expert], x);
  const auto gate = is_gated(activation) ? product(context, layer.gate[expert], x) : std::vector<float>();
  activate(context, activation, gate.data(), y.data(), static_cast<std::int64_t>(y.size()), y.data());
  return y;
}

/// Every token meets several experts, sorted by expert, with some experts idle and one met by most tokens.
std::vector<GatherJob> routed(int tokens) {
  std::vector<GatherJob> jobs;
  int out = 0;
  for (const int view : {0, 1, 3}) {
    for (int token = 0; token < tokens; ++token) {
      if (view != 1 || token % 3 == 0) jobs.push_back({view, token, out++});
    }
  }
  std::reverse(jobs.begin(), jobs.begin() + tokens);  // rows of one expert in any order
  return jobs;
}

class GatherTest : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, GatherTest, testing::ValuesIn(packings()), format_name);

TEST_P(GatherTest, AGatheredProductHasTheBitsOfTheProductAlone) {
  const Layer layer(GetParam(), GetParam());
  ThreadTeam alone(1);
  ThreadTeam team(2);
  Workspace workspace;
  for (const int tokens : {1, 3, 8, 40}) {  // 8: products of 8 and of 3 inputs
    const auto x = Random(31).normal(static_cast<std::size_t>(tokens * layer.in));
    const auto jobs = routed(tokens);
    for (const Isa* isa : supported_isas()) {
      if (isa->name == "scalar" && tokens > 3) continue;  // the reference has one path for any number of rows
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        const Context context{*isa, team, kind};
        const Context reference{*isa, alone, kind};
        std::vector<float> y(jobs.size() * static_cast<std::size_t>(layer.inner));
        gather_matmul(context, layer.gate, x.data(), tokens, jobs, y.data(), workspace);
        for (const GatherJob& job : jobs) {
          const auto& gate = layer.gate[static_cast<std::size_t>(job.view)];
          ASSERT_EQ(bits_of(row_of(y, job.out, layer.inner)),
                    bits_of(product(reference, gate, row_of(x, job.lhs, layer.in))))
              << isa->name;
        }
        for (const Activation activation : kActivations) {
          if ((tokens > 3 || isa->name == "scalar") && activation != Activation::swiglu &&
              activation != Activation::relu2)
            continue;
          gather_activated(context, layer.gates(activation), layer.up, activation, x.data(), tokens, jobs, y.data(),
                           workspace);
          for (const GatherJob& job : jobs) {
            ASSERT_EQ(bits_of(row_of(y, job.out, layer.inner)),
                      bits_of(activated_apart(reference, layer, static_cast<std::size_t>(job.view), activation,
                                              row_of(x, job.lhs, layer.in))))
                << isa->name << " activation " << static_cast<int>(activation);
          }
        }
      }
    }
  }
}

// As the down projections of prefill have it, with small products among large ones.
TEST_P(GatherTest, JobsWithARowOfTheirOwnHaveTheBitsOfTheProductAlone) {
  const Layer layer(GetParam(), GetParam());
  ThreadTeam alone(1);
  ThreadTeam team(2);
  Workspace workspace;
  auto jobs = routed(8);
  for (GatherJob& job : jobs) job.lhs = job.out;
  const auto rows = static_cast<int>(jobs.size());
  const auto x = Random(42).normal(jobs.size() * static_cast<std::size_t>(layer.inner));
  std::vector<float> y(jobs.size() * static_cast<std::size_t>(layer.out));
  for (const Isa* isa : supported_isas()) {
    gather_matmul({*isa, team}, layer.down, x.data(), rows, jobs, y.data(), workspace);
    for (const GatherJob& job : jobs) {
      ASSERT_EQ(bits_of(row_of(y, job.out, layer.out)),
                bits_of(product({*isa, alone}, layer.down[static_cast<std::size_t>(job.view)],
                                row_of(x, job.lhs, layer.inner))))
          << isa->name;
    }
  }
}

// Against the definition, written out: one chain of fused multiply-adds per output.
TEST_P(GatherTest, AnUntransposedProductIsOneChainPerOutputOnAnyNumberOfThreads) {
  const int cols = Layer::width(GetParam(), 3);
  constexpr int kRows = 9;
  std::vector<std::unique_ptr<TestMatrix>> matrices;
  std::vector<MatrixView> table;
  for (unsigned e = 0; e < 4; ++e) {
    matrices.push_back(std::make_unique<TestMatrix>(GetParam(), kRows, cols, 700 + e));
    table.push_back(matrices.back()->view());
  }
  for (const int tokens : {1, 40}) {
    const auto x = Random(40).normal(static_cast<std::size_t>(tokens * kRows));
    const auto jobs = routed(tokens);
    std::vector<float> expected(jobs.size() * static_cast<std::size_t>(cols));
    std::vector<float> w(static_cast<std::size_t>(cols));
    for (const GatherJob& job : jobs) {
      float* y = &expected[static_cast<std::size_t>(job.out * cols)];
      for (int row = 0; row < kRows; ++row) {
        dequantize_row(table[static_cast<std::size_t>(job.view)], row, w.data());
        for (std::size_t col = 0; col < w.size(); ++col) {
          y[col] = std::fma(x[static_cast<std::size_t>(job.lhs * kRows + row)], w[col], y[col]);
        }
      }
    }
    for (const Isa* isa : supported_isas()) {
      for (const int threads : {1, 2, 8}) {
        ThreadTeam team(threads);
        std::vector<float> y(expected.size(), -1.0F);
        gather_matmul_untransposed({*isa, team}, table, x.data(), jobs, y.data());
        EXPECT_EQ(bits_of(y), bits_of(expected)) << isa->name;
      }
    }
  }
}

// More columns than are decoded at once, and a last piece that is none of a power of two.
TEST(Gather, AWideUntransposedProductIsCutIntoPieces) {
  for (const Format& format : {Format{Mode::affine, 4, 64, DType::bf16}, Format{Mode::fp8_block, 8, 128, DType::f32},
                               plain_format(DType::bf16)}) {
    const int cols = format.mode == Mode::affine ? 576 : 573;
    const TestMatrix matrix(format, 5, cols, 800);
    const auto x = Random(41).normal(5);
    std::vector<float> expected(static_cast<std::size_t>(cols)), w(expected.size());
    for (int row = 0; row < 5; ++row) {
      dequantize_row(matrix.view(), row, w.data());
      for (std::size_t col = 0; col < w.size(); ++col) {
        expected[col] = std::fma(x[static_cast<std::size_t>(row)], w[col], expected[col]);
      }
    }
    ThreadTeam team(2);
    const GatherJob job{0, 0, 0};
    for (const Isa* isa : supported_isas()) {
      std::vector<float> y(expected.size());
      const auto before = team.dispatches();
      gather_matmul_untransposed({*isa, team}, {&matrix.view(), 1}, x.data(), {&job, 1}, y.data());
      EXPECT_EQ(team.dispatches() - before, 1U);
      EXPECT_EQ(bits_of(y), bits_of(expected)) << isa->name << ' ' << to_string(format);
    }
  }
}

/// Experts of a layer, in ascending order, and their weights.
struct Choice {
  std::vector<std::size_t> experts;
  std::vector<float> weights;
};

/// The MoE layer step by step: the canonical order of the sum is ascending expert.
std::vector<float> moe_apart(const Context& context, const Layer& layer, const Choice& choice, Activation activation,
                             const std::vector<float>& x) {
  std::vector<float> outputs;
  for (const std::size_t e : choice.experts) {
    const auto y = product(context, layer.down[e], activated_apart(context, layer, e, activation, x));
    outputs.insert(outputs.end(), y.begin(), y.end());
  }
  std::vector<float> y(static_cast<std::size_t>(layer.out));
  weighted_sum(context, outputs.data(), choice.weights.data(), 1, static_cast<int>(choice.experts.size()), layer.out,
               y.data());
  return y;
}

std::vector<float> moe_in_one(const Context& context, const Layer& layer, const Choice& choice, Activation activation,
                              const std::vector<float>& x) {
  std::vector<ExpertViews> experts;
  for (const std::size_t e : choice.experts) experts.push_back(layer.expert(e, activation));
  std::vector<float> y(static_cast<std::size_t>(layer.out));
  static Workspace workspace;
  moe_fused(context, experts, choice.weights, activation, x.data(), y.data(), workspace);
  return y;
}

class MoeTest : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, MoeTest, testing::ValuesIn(packings()), format_name);

TEST_P(MoeTest, TheFusedLayerHasTheBitsOfItsStepsOnAnyNumberOfThreads) {
  const Choice choice = {{0, 2, 3, 4}, {0.4F, 0.1F, 0.3F, 0.2F}};
  ThreadTeam one(1);
  ThreadTeam two(2);
  ThreadTeam eight(8);
  ThreadTeam* const teams[] = {&one, &two, &eight};
  for (const Format& down : {GetParam(), Format{Mode::affine, 8, 32, DType::f16}, plain_format(DType::bf16)}) {
    const Layer layer(GetParam(), down);
    const auto x = Random(32).normal(static_cast<std::size_t>(layer.in));
    for (const Isa* isa : supported_isas()) {
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        for (const Activation activation : kActivations) {
          const bool usual = activation == Activation::swiglu || activation == Activation::relu2;
          if (isa->name == "scalar" && !usual) continue;  // the reference is slow, and takes the same way for all
          const auto expected = bits_of(moe_apart({*isa, one, kind}, layer, choice, activation, x));
          for (ThreadTeam* team : teams) {
            EXPECT_EQ(bits_of(moe_in_one({*isa, *team, kind}, layer, choice, activation, x)), expected)
                << isa->name << ", " << team->size() << " threads, down " << to_string(down) << ", activation "
                << static_cast<int>(activation);
          }
        }
      }
    }
  }
}

constexpr Format kAffine4{Mode::affine, 4, 64, DType::bf16};

TEST(Moe, EveryInstructionSetGivesTheSameBits) {
  const Layer layer(kAffine4, kAffine4);
  const auto x = Random(33).normal(static_cast<std::size_t>(layer.in));
  const Choice choice = {{1, 2}, {0.7F, 0.3F}};
  ThreadTeam alone(1);
  for (const Activation activation : kActivations) {
    const auto expected = bits_of(moe_in_one({all_isas()[0], alone}, layer, choice, activation, x));
    for (const Isa* isa : supported_isas()) {
      EXPECT_EQ(bits_of(moe_in_one({*isa, alone}, layer, choice, activation, x)), expected) << isa->name;
    }
  }
}

// 1024 -> 2688 -> 1024: many units of work per expert, and claims that end inside one.
TEST(Moe, ALayerOfRealLatentWidthsHasTheBitsOfItsSteps) {
  const Layer layer(kAffine4, {Mode::affine, 4, 128, DType::bf16}, 1024, 2688, 1024, 2);
  const auto x = Random(39).normal(static_cast<std::size_t>(layer.in));
  const Choice choice = {{0, 1}, {0.6F, 0.4F}};
  ThreadTeam one(1);
  ThreadTeam eight(8);
  const Isa& isa = select_isa("");
  for (const Activation activation : {Activation::swiglu, Activation::relu2}) {
    EXPECT_EQ(bits_of(moe_in_one({isa, eight}, layer, choice, activation, x)),
              bits_of(moe_apart({isa, one}, layer, choice, activation, x)));
  }
}

TEST(Moe, EveryPathIsOneDispatch) {
  const Layer layer(kAffine4, kAffine4);
  const auto x = Random(34).normal(static_cast<std::size_t>(layer.in));
  ThreadTeam team(2);
  const Context context{select_isa(""), team};
  Workspace workspace;
  const auto jobs = routed(1);
  std::vector<float> y(jobs.size() * static_cast<std::size_t>(layer.inner));
  gather_matmul(context, layer.gate, x.data(), 1, jobs, y.data(), workspace);
  EXPECT_EQ(team.dispatches(), 1U);
  for (const Activation activation : {Activation::swiglu, Activation::relu2}) {
    const auto before = team.dispatches();
    gather_activated(context, layer.gates(activation), layer.up, activation, x.data(), 1, jobs, y.data(), workspace);
    EXPECT_EQ(team.dispatches() - before, 1U);
    moe_in_one(context, layer, {{0}, {1.0F}}, activation, x);
    EXPECT_EQ(team.dispatches() - before, 2U);
  }
}

TEST(Moe, NanInOneExpertReachesTheSum) {
  const Format format{Mode::affine, 4, 64, DType::f32};
  for (const Activation activation : kActivations) {
    const Layer layer(format, format);
    // Of the row of up that relu2 makes zero, too: what is multiplied by zero is not skipped.
    TestMatrix& broken = *layer.matrices[3 * 2 + 1];
    for (std::size_t i = 0; i < 4; ++i) {
      put_float(broken.scales(), i, DType::f32, std::numeric_limits<float>::quiet_NaN());
    }
    const auto x = Random(35).normal(static_cast<std::size_t>(layer.in));
    ThreadTeam alone(1);
    for (const Isa* isa : supported_isas()) {
      const Context context{*isa, alone};
      for (const float y : moe_in_one(context, layer, {{1, 2}, {0.5F, 0.5F}}, activation, x))
        EXPECT_TRUE(std::isnan(y));
      for (const float y : moe_in_one(context, layer, {{1, 3}, {0.5F, 0.5F}}, activation, x)) {
        EXPECT_TRUE(std::isfinite(y));
      }
    }
  }
}

TEST(Moe, InfiniteAndNanWeightsMeetTheZerosOfRelu2) {
  const Format format = plain_format(DType::f32);
  const Layer layer(format, format);
  // Row 0 of down: infinite where the inner value is zero, which makes a NaN that skipping zeros would lose.
  TestMatrix& down = *layer.matrices[3 * 1 + 2];
  const auto x = Random(38).normal(static_cast<std::size_t>(layer.in));
  ThreadTeam alone(1);
  for (const Isa* isa : supported_isas()) {
    const Context context{*isa, alone};
    const auto inner = activated_apart(context, layer, 1, Activation::relu2, x);
    const auto zero = static_cast<std::size_t>(std::find(inner.begin(), inner.end(), 0.0F) - inner.begin());
    ASSERT_LT(zero, inner.size());
    put_float(down.codes(), zero, DType::f32, std::numeric_limits<float>::infinity());
    const auto y = moe_in_one(context, layer, {{1}, {1.0F}}, Activation::relu2, x);
    EXPECT_TRUE(std::isnan(y[0])) << isa->name;
    EXPECT_TRUE(std::isfinite(y[1])) << isa->name;
  }
}

TEST(Gather, NoJobsAreNoWork) {
  const Layer layer(kAffine4, kAffine4);
  ThreadTeam team(2);
  Workspace workspace;
  const Context context{select_isa(""), team};
  gather_matmul(context, layer.gate, nullptr, 0, {}, nullptr, workspace);
  gather_activated(context, layer.gate, layer.up, Activation::swiglu, nullptr, 0, {}, nullptr, workspace);
  gather_activated(context, {}, layer.up, Activation::relu2, nullptr, 0, {}, nullptr, workspace);
  EXPECT_EQ(team.dispatches(), 0U);
}

TEST(WeightedSum, AddsTheExpertsOfEachRowInTheirOrder) {
  constexpr int kRows = 3;
  constexpr int kChosen = 4;
  constexpr int kWidth = 21;
  const auto outputs = Random(36).normal(kRows * kChosen * kWidth);
  const auto weights = Random(37).normal(kRows * kChosen);
  std::vector<float> expected(kRows * kWidth);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::size_t row = i / (kChosen * kWidth);
    float& y = expected[row * kWidth + i % kWidth];
    y = std::fma(weights[i / kWidth], outputs[i], y);
  }
  for (const Isa* isa : supported_isas()) {
    ThreadTeam team(2);
    std::vector<float> y(expected.size());
    weighted_sum({*isa, team}, outputs.data(), weights.data(), kRows, kChosen, kWidth, y.data());
    EXPECT_EQ(bits_of(y), bits_of(expected)) << isa->name;
  }
}

}  // namespace
}  // namespace sluice::kernels
