// Three ways through a MoE layer, one result: each product alone, gathered, fused.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/matmul_support.h"
#include "kernels/vector.h"

namespace sluice::kernels {
namespace {

constexpr int kExperts = 5;

/// A table of experts in one format; hidden and inner widths are legal for it, but odd otherwise.
struct Layer {
  explicit Layer(const Format& format, const Format& down_format)
      : hidden(width(format, 3)), inner(width(down_format, 5)) {
    for (unsigned e = 0; e < kExperts; ++e) {
      matrices.push_back(std::make_unique<TestMatrix>(format, inner, hidden, 100 + e));
      matrices.push_back(std::make_unique<TestMatrix>(format, inner, hidden, 200 + e));
      matrices.push_back(std::make_unique<TestMatrix>(down_format, hidden, inner, 300 + e));
      gate.push_back(matrices[3 * e]->view());
      up.push_back(matrices[3 * e + 1]->view());
      down.push_back(matrices[3 * e + 2]->view());
    }
  }

  /// Small, since the scalar reference computes it too, but more than one group.
  static int width(const Format& format, int groups) {
    return format.group == 0 ? 8 * groups + 4 : format.group * (format.group > 32 ? 2 : groups);
  }

  int hidden;
  int inner;
  std::vector<std::unique_ptr<TestMatrix>> matrices;
  std::vector<MatrixView> gate;
  std::vector<MatrixView> up;
  std::vector<MatrixView> down;
};

std::vector<float> row_of(const std::vector<float>& values, int row, int width) {
  return {values.begin() + row * width, values.begin() + (row + 1) * width};
}

/// silu(gate x) * (up x) for one row, each step on its own.
std::vector<float> glu_apart(const Context& context, const MatrixView& gate, const MatrixView& up,
                             const std::vector<float>& x) {
  auto y = product(context, gate, x);
  const auto up_y = product(context, up, x);
  swiglu(context, y.data(), up_y.data(), static_cast<std::int64_t>(y.size()), y.data());
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
  for (const int tokens : {1, 3, 40}) {
    const auto x = Random(31).normal(static_cast<std::size_t>(tokens * layer.hidden));
    const auto jobs = routed(tokens);
    for (const Isa* isa : supported_isas()) {
      if (isa->name == "scalar" && tokens > 3) continue;  // the reference has one path for any number of rows
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        const Context context{*isa, team, kind};
        const Context reference{*isa, alone, kind};
        std::vector<float> y(jobs.size() * static_cast<std::size_t>(layer.inner));
        std::vector<float> glu(y.size());
        gather_matmul(context, layer.gate, x.data(), tokens, jobs, y.data(), workspace);
        gather_glu(context, layer.gate, layer.up, Activation::swiglu, x.data(), tokens, jobs, glu.data(), workspace);
        for (const GatherJob& job : jobs) {
          const auto& gate = layer.gate[static_cast<std::size_t>(job.view)];
          const auto& up = layer.up[static_cast<std::size_t>(job.view)];
          const auto row = row_of(x, job.lhs, layer.hidden);
          ASSERT_EQ(bits_of(row_of(y, job.out, layer.inner)), bits_of(product(reference, gate, row))) << isa->name;
          ASSERT_EQ(bits_of(row_of(glu, job.out, layer.inner)), bits_of(glu_apart(reference, gate, up, row)))
              << isa->name;
        }
      }
    }
  }
}

/// The MoE layer step by step: the canonical order of the sum is ascending expert.
std::vector<float> moe_apart(const Context& context, const Layer& layer, const std::vector<std::size_t>& chosen,
                             const std::vector<float>& weights, const std::vector<float>& x) {
  std::vector<float> outputs;
  for (const std::size_t e : chosen) {
    const auto y = product(context, layer.down[e], glu_apart(context, layer.gate[e], layer.up[e], x));
    outputs.insert(outputs.end(), y.begin(), y.end());
  }
  std::vector<float> y(static_cast<std::size_t>(layer.hidden));
  weighted_sum(context, outputs.data(), weights.data(), 1, static_cast<int>(chosen.size()), layer.hidden, y.data());
  return y;
}

std::vector<float> moe_in_one(const Context& context, const Layer& layer, const std::vector<std::size_t>& chosen,
                              const std::vector<float>& weights, const std::vector<float>& x) {
  std::vector<ExpertViews> experts;
  for (const std::size_t e : chosen) experts.push_back({layer.gate[e], layer.up[e], layer.down[e]});
  std::vector<float> y(static_cast<std::size_t>(layer.hidden));
  static Workspace workspace;
  moe_fused(context, experts, weights, Activation::swiglu, x.data(), y.data(), workspace);
  return y;
}

class MoeTest : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, MoeTest, testing::ValuesIn(packings()), format_name);

TEST_P(MoeTest, TheFusedLayerHasTheBitsOfItsStepsOnAnyNumberOfThreads) {
  const std::vector<std::size_t> chosen = {0, 2, 3, 4};
  const std::vector<float> weights = {0.4F, 0.1F, 0.3F, 0.2F};
  ThreadTeam one(1);
  ThreadTeam two(2);
  ThreadTeam three(3);
  ThreadTeam* const teams[] = {&one, &two, &three};
  for (const Format& down : {GetParam(), Format{Mode::affine, 8, 32, DType::f16}, plain_format(DType::bf16)}) {
    const Layer layer(GetParam(), down);
    const auto x = Random(32).normal(static_cast<std::size_t>(layer.hidden));
    for (const Isa* isa : supported_isas()) {
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        const auto expected = bits_of(moe_apart({*isa, *teams[0], kind}, layer, chosen, weights, x));
        for (ThreadTeam* team : teams) {
          EXPECT_EQ(bits_of(moe_in_one({*isa, *team, kind}, layer, chosen, weights, x)), expected)
              << isa->name << ", " << team->size() << " threads, down " << to_string(down);
        }
      }
    }
  }
}

TEST(Moe, EveryInstructionSetGivesTheSameBits) {
  const Layer layer({Mode::affine, 4, 64, DType::bf16}, {Mode::affine, 4, 64, DType::bf16});
  const auto x = Random(33).normal(static_cast<std::size_t>(layer.hidden));
  ThreadTeam alone(1);
  const auto expected = bits_of(moe_in_one({all_isas()[0], alone}, layer, {1, 2}, {0.7F, 0.3F}, x));
  for (const Isa* isa : supported_isas()) {
    EXPECT_EQ(bits_of(moe_in_one({*isa, alone}, layer, {1, 2}, {0.7F, 0.3F}, x)), expected) << isa->name;
  }
}

TEST(Moe, EveryPathIsOneDispatch) {
  const Layer layer({Mode::affine, 4, 64, DType::bf16}, {Mode::affine, 4, 64, DType::bf16});
  const auto x = Random(34).normal(static_cast<std::size_t>(layer.hidden));
  ThreadTeam team(2);
  const Context context{select_isa(""), team};
  Workspace workspace;
  const auto jobs = routed(1);
  std::vector<float> y(jobs.size() * static_cast<std::size_t>(layer.inner));
  gather_matmul(context, layer.gate, x.data(), 1, jobs, y.data(), workspace);
  EXPECT_EQ(team.dispatches(), 1U);
  gather_glu(context, layer.gate, layer.up, Activation::swiglu, x.data(), 1, jobs, y.data(), workspace);
  EXPECT_EQ(team.dispatches(), 2U);
  const std::vector<ExpertViews> experts = {{layer.gate[0], layer.up[0], layer.down[0]}};
  const float weight = 1.0F;
  std::vector<float> out(static_cast<std::size_t>(layer.hidden));
  moe_fused(context, experts, {&weight, 1}, Activation::swiglu, x.data(), out.data(), workspace);
  EXPECT_EQ(team.dispatches(), 3U);
}

TEST(Moe, NanInOneExpertReachesTheSum) {
  const Layer layer({Mode::affine, 4, 64, DType::f32}, {Mode::affine, 4, 64, DType::f32});
  for (std::size_t i = 0; i < 5; ++i) {
    put_float(layer.matrices[3 * 2]->scales(), i, DType::f32, std::numeric_limits<float>::quiet_NaN());
  }
  const auto x = Random(35).normal(static_cast<std::size_t>(layer.hidden));
  ThreadTeam alone(1);
  for (const Isa* isa : supported_isas()) {
    for (const float y : moe_in_one({*isa, alone}, layer, {1, 2}, {0.5F, 0.5F}, x)) EXPECT_TRUE(std::isnan(y));
    for (const float y : moe_in_one({*isa, alone}, layer, {1, 3}, {0.5F, 0.5F}, x)) EXPECT_TRUE(std::isfinite(y));
  }
}

TEST(Gather, NoJobsAreNoWork) {
  const Layer layer({Mode::affine, 4, 64, DType::bf16}, {Mode::affine, 4, 64, DType::bf16});
  ThreadTeam team(2);
  Workspace workspace;
  gather_matmul({select_isa(""), team}, layer.gate, nullptr, 0, {}, nullptr, workspace);
  gather_glu({select_isa(""), team}, layer.gate, layer.up, Activation::swiglu, nullptr, 0, {}, nullptr, workspace);
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
