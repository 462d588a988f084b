// What a view may say besides where packed rows lie: a Linear bias, and rows that are not packed.
#include "kernels/matrix_view.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/matmul_support.h"

namespace sluice::kernels {
namespace {

class MatrixViewTest : public testing::TestWithParam<Format> {
 protected:
  static int cols() {
    if (GetParam().mode == Mode::fp8_block) return 131;
    return GetParam().group == 0 ? 44 : 3 * GetParam().group;
  }
  static std::vector<float> input(int rows) { return Random(2).normal(static_cast<std::size_t>(rows * cols())); }

  ThreadTeam team_{2};
};
INSTANTIATE_TEST_SUITE_P(Formats, MatrixViewTest, testing::ValuesIn(packings()), format_name);

constexpr int kRows = 19;

TEST_P(MatrixViewTest, TheBiasIsAddedOnceAfterTheProduct) {
  TestMatrix matrix(GetParam(), kRows, cols(), 1);
  const MatrixView bare = matrix.view();
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const MatrixView biased = matrix.add_bias(type, 3);
    for (const Isa* isa : supported_isas()) {
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        for (const int rows : {1, 5}) {
          auto expected = product({*isa, team_, kind}, bare, input(rows));
          for (std::size_t i = 0; i < expected.size(); ++i) {
            const std::byte* at = biased.bias + (i % kRows) * size_of(type);
            std::uint16_t half = 0;
            float value = 0.0F;
            std::memcpy(&half, at, sizeof half);
            if (type == DType::f32) std::memcpy(&value, at, sizeof value);
            if (type == DType::f16) value = f16_to_f32(half);
            if (type == DType::bf16) value = bf16_to_f32(half);
            expected[i] += value;
          }
          EXPECT_EQ(bits_of(product({*isa, team_, kind}, biased, input(rows))), bits_of(expected))
              << isa->name << ' ' << name_of(type);
        }
      }
    }
  }
}

TEST_P(MatrixViewTest, ASliceTakesItsBiasWithIt) {
  TestMatrix matrix(GetParam(), kRows, cols(), 4);
  const MatrixView view = matrix.add_bias(DType::bf16, 5);
  for (const Isa* isa : supported_isas()) {
    const Context context{*isa, team_};
    const auto whole = bits_of(product(context, view, input(1)));
    const auto slice = bits_of(product(context, row_slice(view, 7, 9), input(1)));
    EXPECT_EQ(slice, std::vector(whole.begin() + 7, whole.begin() + 16)) << isa->name;
  }
}

TEST_P(MatrixViewTest, InterleavedRowsGiveTheBitsOfPackedOnes) {
  TestMatrix even(GetParam(), kRows, cols(), 6);
  TestMatrix odd(GetParam(), kRows, cols(), 7);
  even.add_bias(DType::bf16, 8);
  odd.add_bias(DType::bf16, 9);
  const InterleavedPair pair(even.view(), odd.view());
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
      const Context context{*isa, team_, kind};
      for (const int rows : {1, 5}) {
        EXPECT_EQ(bits_of(product(context, pair.even(), input(rows))),
                  bits_of(product(context, even.view(), input(rows))));
        EXPECT_EQ(bits_of(product(context, row_slice(pair.odd(), 3, 11), input(rows))),
                  bits_of(product(context, row_slice(odd.view(), 3, 11), input(rows))));
      }
      const auto x = input(2);
      const GatherJob jobs[] = {{0, 0, 1}, {0, 1, 0}};
      std::vector<float> packed(2 * kRows), interleaved(2 * kRows);
      Workspace workspace;
      gather_activated(context, {&even.view(), 1}, {&odd.view(), 1}, Activation::clamped_swiglu, x.data(), 2, jobs,
                       packed.data(), workspace);
      gather_activated(context, {&pair.even(), 1}, {&pair.odd(), 1}, Activation::clamped_swiglu, x.data(), 2, jobs,
                       interleaved.data(), workspace);
      EXPECT_EQ(bits_of(interleaved), bits_of(packed)) << isa->name;

      TestMatrix down(plain_format(DType::bf16), 5, kRows, 10);
      const ExpertViews experts[] = {{even.view(), odd.view(), down.view()}, {pair.even(), pair.odd(), down.view()}};
      const float one = 1.0F;
      for (const bool is_pair : {false, true}) {
        moe_fused(context, {experts + is_pair, 1}, {&one, 1}, Activation::clamped_swiglu, x.data(),
                  (is_pair ? interleaved : packed).data(), workspace);
      }
      EXPECT_EQ(bits_of(interleaved), bits_of(packed)) << isa->name;

      std::vector<float> w(static_cast<std::size_t>(cols())), expected(w.size());
      dequantize_row(pair.odd(), 4, w.data());
      dequantize_row(odd.view(), 4, expected.data());
      EXPECT_EQ(bits_of(w), bits_of(expected));
    }
  }
}

TEST(MatrixView, NanInTheBiasReachesItsOutputOnly) {
  TestMatrix matrix({Mode::affine, 4, 64, DType::bf16}, 9, 64, 11);
  const MatrixView view = matrix.add_bias(DType::f32, 12);
  put_float(const_cast<std::byte*>(view.bias), 3, DType::f32, std::numeric_limits<float>::quiet_NaN());
  ThreadTeam alone(1);
  for (const Isa* isa : supported_isas()) {
    const auto y = product({*isa, alone}, view, Random(13).normal(64));
    for (std::size_t row = 0; row < 9; ++row) EXPECT_EQ(std::isnan(y[row]), row == 3) << isa->name;
  }
}

}  // namespace
}  // namespace sluice::kernels
