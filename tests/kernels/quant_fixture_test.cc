// Golden values of MLX for every quantization mode.
#include "kernels/quant_fixture.h"

#include <gtest/gtest.h>

#include "kernels/matmul_support.h"

namespace sluice::kernels {
namespace {

class QuantFixtureTest : public testing::TestWithParam<QuantCase> {
 protected:
  QuantFixtureTest() : fixture_(GetParam().file) {
    const auto& shape = fixture_.shape("packed");  // [experts, out, words]
    rows_ = shape[1];
    cols_ = shape[2] * 32 / GetParam().format.bits;
    // All experts as one tall matrix, then cut.
    const MatrixView all = make_view(GetParam().format, shape[0] * rows_, cols_, fixture_.data("packed"),
                                     fixture_.data("scales"), fixture_.data("biases"));
    for (int expert = 0; expert < shape[0]; ++expert) experts_.push_back(row_slice(all, expert * rows_, rows_));
  }

  /// Of a product, against MLX in f32: the order of its sums is not ours.
  static double tolerance(ActivationKind kind) { return kind == ActivationKind::f32 ? 2e-6 : 1e-4; }

  QuantFixture fixture_;
  int rows_;
  int cols_;
  std::vector<MatrixView> experts_;
  ThreadTeam team_{2};
};

INSTANTIATE_TEST_SUITE_P(Files, QuantFixtureTest, testing::ValuesIn(quant_cases()),
                         [](const auto& test) { return test.param.file.substr(0, test.param.file.find('.')); });

TEST_P(QuantFixtureTest, DecodesEveryWeightBitForBit) {
  std::vector<float> decoded;
  for (const MatrixView& expert : experts_) {
    for (int row = 0; row < rows_; ++row) {
      std::vector<float> w(static_cast<std::size_t>(cols_));
      dequantize_row(expert, row, w.data());
      decoded.insert(decoded.end(), w.begin(), w.end());
    }
  }
  EXPECT_EQ(bits_of(decoded), bits_of(fixture_.values<float>("dequant")));
}

TEST_P(QuantFixtureTest, MultipliesLikeTheReference) {
  const auto expert = static_cast<std::size_t>(fixture_.values<std::int32_t>("expert")[0]);
  const auto x = fixture_.values<float>("x");
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : {ActivationKind::f32, ActivationKind::int16}) {
      const auto y = product({*isa, team_, kind}, experts_[expert], x);
      EXPECT_LE(relative_error(y, fixture_.values<float>("y_qmm")), tolerance(kind)) << isa->name;
    }
  }
}

TEST_P(QuantFixtureTest, MultipliesUntransposedLikeTheReference) {
  const auto expert = fixture_.values<std::int32_t>("expert")[0];
  const auto x = fixture_.values<float>("x_nt");             // [3, rows]
  const auto expected = fixture_.values<float>("y_qmm_nt");  // [3, cols]
  const GatherJob jobs[] = {{expert, 0, 0}, {expert, 1, 1}, {expert, 2, 2}};
  for (const Isa* isa : supported_isas()) {
    std::vector<float> y(expected.size());
    gather_matmul_untransposed({*isa, team_}, experts_, x.data(), jobs, y.data());
    EXPECT_LE(relative_error(y, expected), 2e-6) << isa->name;
  }
}

TEST_P(QuantFixtureTest, GathersLikeTheReference) {
  const auto x = fixture_.values<float>("x_gather");               // [tokens, cols]
  const auto ids = fixture_.values<std::uint32_t>("rhs_indices");  // [tokens, k]
  const auto expected = fixture_.values<float>("y_gather");        // [tokens, k, rows]
  const int tokens = static_cast<int>(x.size()) / cols_;
  const int k = static_cast<int>(ids.size()) / tokens;
  std::vector<GatherJob> jobs;
  for (int job = 0; job < static_cast<int>(ids.size()); ++job) {
    jobs.push_back({static_cast<int>(ids[static_cast<std::size_t>(job)]), job / k, job});
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](auto& a, auto& b) { return a.view < b.view; });
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : {ActivationKind::f32, ActivationKind::int16}) {
      std::vector<float> y(expected.size());
      Workspace workspace;
      gather_matmul({*isa, team_, kind}, experts_, x.data(), tokens, jobs, y.data(), workspace);
      EXPECT_LE(relative_error(y, expected), tolerance(kind)) << isa->name;
    }
  }
}

TEST(QuantTables, EveryE4m3CodeDecodesLikeTheReference) {
  const QuantFixture fixture("tables.safetensors");
  std::vector<std::byte> codes(256);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::byte(i);
  const std::vector<std::byte> ones(8, std::byte{127});  // 2^0
  std::vector<float> w(256);
  dequantize_row(make_view({Mode::mxfp8, 8, 32, DType::u8}, 1, 256, codes.data(), ones.data(), nullptr), 0, w.data());
  EXPECT_EQ(bits_of(w), bits_of(fixture.values<float>("e4m3")));
}

TEST(QuantTables, EveryE8m0ScaleDecodesLikeTheReference) {
  const QuantFixture fixture("tables.safetensors");
  const std::vector<std::byte> codes(32, std::byte{0x38});  // 1.0
  std::vector<float> decoded;
  for (int scale = 0; scale < 256; ++scale) {
    const auto byte = std::byte(scale);
    std::vector<float> w(32);
    dequantize_row(make_view({Mode::mxfp8, 8, 32, DType::u8}, 1, 32, codes.data(), &byte, nullptr), 0, w.data());
    decoded.push_back(w[0]);
  }
  EXPECT_EQ(bits_of(decoded), bits_of(fixture.values<float>("e8m0")));
}

TEST(QuantTables, EveryE2m1CodeDecodesLikeTheReference) {
  const QuantFixture fixture("tables.safetensors");
  std::vector<std::byte> codes(16);
  for (std::size_t i = 0; i < 8; ++i) codes[i] = std::byte(2 * i | (2 * i + 1) << 4);
  const auto one = std::byte{127};
  std::vector<float> w(32);
  dequantize_row(make_view({Mode::mxfp4, 4, 32, DType::u8}, 1, 32, codes.data(), &one, nullptr), 0, w.data());
  w.resize(16);
  EXPECT_EQ(bits_of(w), bits_of(fixture.values<float>("e2m1")));
}

// gather_qmm with both index arrays: every job picks a pair of rows and an expert.
TEST(QuantGather, LeftAndRightIndicesTogetherGiveTheReference) {
  const QuantFixture fixture("gather_lhs_rhs.safetensors");
  constexpr int kRows = 8;
  constexpr int kCols = 256;
  constexpr int kPair = 2;
  const Format format{Mode::affine, 4, 64, DType::f32};
  const MatrixView all = make_view(format, fixture.shape("packed")[0] * kRows, kCols, fixture.data("packed"),
                                   fixture.data("scales"), fixture.data("biases"));
  std::vector<MatrixView> experts;
  for (int e = 0; e < fixture.shape("packed")[0]; ++e) experts.push_back(row_slice(all, e * kRows, kRows));
  const auto lhs = fixture.values<std::uint32_t>("lhs_indices");
  const auto rhs = fixture.values<std::uint32_t>("rhs_indices");
  std::vector<GatherJob> jobs;
  for (std::size_t i = 0; i < lhs.size(); ++i) {
    for (int row = 0; row < kPair; ++row) {
      jobs.push_back(
          {static_cast<int>(rhs[i]), static_cast<int>(lhs[i]) * kPair + row, static_cast<int>(i) * kPair + row});
    }
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](auto& a, auto& b) { return a.view < b.view; });
  const auto x = fixture.values<float>("x");
  ThreadTeam alone(1);
  for (const Isa* isa : supported_isas()) {
    std::vector<float> y(jobs.size() * kRows);
    Workspace workspace;
    gather_matmul({*isa, alone, ActivationKind::f32}, experts, x.data(), static_cast<int>(x.size()) / kCols, jobs,
                  y.data(), workspace);
    EXPECT_LE(relative_error(y, fixture.values<float>("y")), 2e-6) << isa->name;
  }
}

}  // namespace
}  // namespace sluice::kernels
