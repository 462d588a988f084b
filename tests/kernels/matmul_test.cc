// Properties of matrix products that hold for every format: what may change a bit (nothing but weights, input and
// activation kind) and how large the error is.
#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/matmul_kernels.h"
#include "kernels/matmul_support.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Numbers of columns that are legal for the format but seldom a multiple of a vector or a tile.
std::vector<int> widths(const Format& format) {
  if (format.group == 0) return {1, 7, 8, 13, 517};
  if (format.mode == Mode::fp8_block) return {1, 8, 61, 128, 200, 512 + 130};
  return {format.group, 3 * format.group, 9 * format.group, 1024 + format.group};
}

class MatmulTest : public testing::TestWithParam<Format> {
 protected:
  static std::vector<ActivationKind> kinds() { return {ActivationKind::int16, ActivationKind::f32}; }

  ThreadTeam alone_{1};
};

class PackingTest : public MatmulTest {};

INSTANTIATE_TEST_SUITE_P(Formats, MatmulTest, testing::ValuesIn(all_formats()), format_name);
INSTANTIATE_TEST_SUITE_P(Formats, PackingTest, testing::ValuesIn(packings()), format_name);

TEST_P(MatmulTest, EveryInstructionSetGivesTheBitsOfTheScalarReference) {
  for (const int cols : widths(GetParam())) {
    const TestMatrix matrix(GetParam(), 9, cols, 1);
    for (const int rows : {1, 5}) {
      const auto x = Random(2).normal(static_cast<std::size_t>(rows * cols));
      for (const ActivationKind kind : kinds()) {
        const auto expected = bits_of(product({all_isas()[0], alone_, kind}, matrix.view(), x));
        for (const Isa* isa : supported_isas()) {
          EXPECT_EQ(bits_of(product({*isa, alone_, kind}, matrix.view(), x)), expected)
              << isa->name << ", " << cols << " columns, " << rows << " rows";
        }
      }
    }
  }
}

TEST_P(PackingTest, ARowAloneGivesTheBitsOfTheSameRowInABatchOnAnyNumberOfThreads) {
  constexpr int kRows = 33;
  constexpr int kOut = 19;
  const int cols = GetParam().group == 0 ? 77 : 5 * GetParam().group;
  const TestMatrix matrix(GetParam(), kOut, cols, 3);
  const auto x = Random(4).normal(static_cast<std::size_t>(kRows * cols));
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : kinds()) {
      std::vector<float> one_by_one;
      for (int row = 0; row < kRows; ++row) {
        const auto y =
            product({*isa, alone_, kind}, matrix.view(), {x.begin() + row * cols, x.begin() + (row + 1) * cols});
        one_by_one.insert(one_by_one.end(), y.begin(), y.end());
      }
      for (const int threads : {1, 2, 3}) {
        ThreadTeam team(threads);
        EXPECT_EQ(bits_of(product({*isa, team, kind}, matrix.view(), x)), bits_of(one_by_one))
            << isa->name << ", " << threads << " threads";
      }
      for (const int rows : {2, kTileInputs - 1, kTileInputs}) {
        const auto y = product({*isa, alone_, kind}, matrix.view(), {x.begin(), x.begin() + rows * cols});
        EXPECT_EQ(bits_of(y), bits_of({one_by_one.begin(), one_by_one.begin() + rows * kOut}))
            << isa->name << ", " << rows << " rows";
      }
    }
  }
}

TEST_P(PackingTest, RowsOfASliceGiveTheBitsOfTheWholeMatrix) {
  const int cols = GetParam().group == 0 ? 40 : 2 * GetParam().group;
  const TestMatrix matrix(GetParam(), 21, cols, 5);
  const auto x = Random(6).normal(static_cast<std::size_t>(cols));
  for (const Isa* isa : supported_isas()) {
    const Context context{*isa, alone_};
    const auto whole = bits_of(product(context, matrix.view(), x));
    for (const auto& [first, count] : {std::pair{0, 1}, {3, 8}, {20, 1}, {5, 16}}) {
      const auto slice = bits_of(product(context, row_slice(matrix.view(), first, count), x));
      EXPECT_EQ(slice, std::vector(whole.begin() + first, whole.begin() + first + count)) << isa->name;
    }
  }
}

// 128 rows share a row of scales: a view may begin and end anywhere between.
TEST(Fp8Block, ASliceKeepsTheScalesOfItsRows) {
  constexpr int kRows = 300;
  constexpr int kCols = 200;
  const TestMatrix matrix({Mode::fp8_block, 8, 128, DType::f32}, kRows, kCols, 27);
  const auto x = Random(28).normal(kCols);
  ThreadTeam alone(1);
  std::vector<float> scales(6);
  std::memcpy(scales.data(), matrix.view().scales, sizeof(float) * 6);
  for (const Isa* isa : supported_isas()) {
    const Context context{*isa, alone};
    const auto whole = bits_of(product(context, matrix.view(), x));
    for (const auto& [first, count] : {std::pair{0, 128}, {100, 90}, {127, 2}, {128, 128}, {255, 45}, {299, 1}}) {
      const MatrixView slice = row_slice(matrix.view(), first, count);
      EXPECT_EQ(bits_of(product(context, slice, x)), std::vector(whole.begin() + first, whole.begin() + first + count));
      // A slice of a slice, and its weights, from their definition.
      const MatrixView last = row_slice(slice, count - 1, 1);
      EXPECT_EQ(bits_of(product(context, last, x))[0], whole[static_cast<std::size_t>(first + count - 1)]);
      std::vector<float> w(kCols);
      dequantize_row(last, 0, w.data());
      const auto scale_row = static_cast<std::size_t>((first + count - 1) / 128);
      for (std::size_t col = 0; col < kCols; ++col) {
        const auto code = std::to_integer<unsigned>(last.codes[col]);
        const int exponent = static_cast<int>(code >> 3 & 15U);
        const float mantissa = static_cast<float>(code & 7U) / 8;
        const float magnitude = exponent == 0 ? std::ldexp(mantissa, -6) : std::ldexp(1 + mantissa, exponent - 7);
        const float exact = ((code & 0x80U) != 0 ? -magnitude : magnitude) * scales[2 * scale_row + col / 128];
        EXPECT_EQ(w[col], bf16_to_f32(f32_to_bf16(exact)));
      }
    }
  }
}

TEST(Fp8Block, NanAndInfiniteScalesStayInTheirBlock) {
  constexpr int kRows = 140;
  constexpr int kCols = 133;  // five columns in the last block
  const auto x = Random(29).normal(kCols);
  ThreadTeam alone(1);
  for (const std::uint32_t bits : {0x7FFFFFFFU, 0xFFFFFFFFU, 0x7F800001U, 0x7F800000U}) {
    TestMatrix matrix({Mode::fp8_block, 8, 128, DType::f32}, kRows, kCols, 30);
    std::memcpy(matrix.scales() + 12, &bits, 4);  // rows 128 and beyond, columns 128 and beyond
    const auto expected = bits_of(product({all_isas()[0], alone}, matrix.view(), x));
    for (const Isa* isa : supported_isas()) {
      const auto y = product({*isa, alone}, matrix.view(), x);
      EXPECT_EQ(bits_of(y), expected) << isa->name;
      for (std::size_t row = 0; row < kRows; ++row) EXPECT_EQ(std::isfinite(y[row]), row < 128) << row;
    }
  }
}

// Unit vectors bring out the weights themselves: of every code, in products of one row and of many.
TEST(Fp8Block, EveryCodeHasItsWeightAtEveryScale) {
  constexpr int kCols = 256;
  std::vector<float> scales{0.0F,      1.0F,      -1.0F,    0x1.01p0F, 0x1.03p0F, -0x1.81p3F, 0x1.FFp0F, 0x1.FEFFFEp-5F,
                            0x1p-149F, 0x1p-126F, 0x1p-99F, 0x1p-100F, 0x1p-101F, 0x1.9p99F,  0x1p100F,  0x1.8p118F};
  for (const float scale : Random(33).normal(40)) scales.push_back(scale);
  std::vector<float> units(kCols * kCols);
  for (std::size_t i = 0; i < kCols; ++i) units[i * kCols + i] = 1.0F;
  ThreadTeam alone(1);
  Workspace workspace;
  TestMatrix matrix({Mode::fp8_block, 8, 128, DType::f32}, 8, kCols, 34);
  for (int i = 0; i < kCols; ++i) matrix.codes()[i] = std::byte(i);
  for (const float scale : scales) {
    for (std::size_t block = 0; block < 2; ++block) put_float(matrix.scales(), block, DType::f32, scale);
    std::vector<float> w(kCols);
    dequantize_row(matrix.view(), 0, w.data());
    for (const Isa* isa : supported_isas()) {
      const Context context{*isa, alone};
      std::vector<float> together(kCols * 8), one_by_one(kCols * 8);
      const Projection all{&matrix.view(), together.data(), 8};
      matmul(context, units.data(), kCols, {&all, 1}, workspace);
      for (std::size_t i = 0; i < kCols; ++i) {
        const Projection one{&matrix.view(), &one_by_one[i * 8], 8};
        matmul(context, &units[i * kCols], 1, {&one, 1}, workspace);
      }
      for (std::size_t i = 0; i < kCols; ++i) {
        EXPECT_EQ(together[i * 8], w[i]) << isa->name << ", code " << i << ", scale " << scale;
        EXPECT_EQ(one_by_one[i * 8], w[i]) << isa->name << ", code " << i << ", scale " << scale;
      }
    }
  }
}

// A checkpoint may store the biases of its symmetric groups, too: the same weights, the same bits.
TEST(Symmetric, HasTheBitsOfAffineWithItsBiasesWrittenOut) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const TestMatrix matrix({Mode::symmetric, 4, 32, type}, 11, 160, 31);
    TestMatrix affine({Mode::affine, 4, 32, type}, 11, 160, 31);
    std::memcpy(affine.codes(), matrix.view().codes, 11 * 80);
    std::memcpy(affine.scales(), matrix.view().scales, 11 * 5 * size_of(type));
    for (std::size_t i = 0; i < 11 * 5; ++i) {
      float scale = 0.0F;
      std::uint16_t half = 0;
      std::memcpy(&scale, matrix.view().scales + 4 * i, type == DType::f32 ? 4 : 0);
      std::memcpy(&half, matrix.view().scales + 2 * i, 2);
      if (type == DType::f16) scale = f16_to_f32(half);
      if (type == DType::bf16) scale = bf16_to_f32(half);
      put_float(affine.biases(), i, type, -8 * scale);
    }
    const auto x = Random(32).normal(5 * 160);
    ThreadTeam alone(1);
    std::vector<float> w(160), expected(160);
    dequantize_row(matrix.view(), 10, w.data());
    dequantize_row(affine.view(), 10, expected.data());
    EXPECT_EQ(bits_of(w), bits_of(expected));
    for (const Isa* isa : supported_isas()) {
      for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
        EXPECT_EQ(bits_of(product({*isa, alone, kind}, matrix.view(), x)),
                  bits_of(product({*isa, alone, kind}, affine.view(), x)))
            << isa->name;
      }
    }
  }
}

TEST_P(PackingTest, TheErrorAgainstF64StaysWithinItsBound) {
  constexpr int kCols = 2048;
  const TestMatrix matrix(GetParam(), 32, kCols, 7);
  const auto normal = Random(8).normal(2 * kCols);
  auto heavy = normal;  // the cube of a normal number: kurtosis 46, a group is ruled by its largest value
  for (float& value : heavy) value *= value * value;
  for (const Isa* isa : supported_isas()) {
    const Context int16{*isa, alone_, ActivationKind::int16};
    const Context f32{*isa, alone_, ActivationKind::f32};
    EXPECT_LE(relative_error(product(int16, matrix.view(), normal), oracle(matrix.view(), normal)), 5e-5);
    EXPECT_LE(relative_error(product(int16, matrix.view(), heavy), oracle(matrix.view(), heavy)), 1.5e-4);
    EXPECT_LE(relative_error(product(f32, matrix.view(), normal), oracle(matrix.view(), normal)), 1e-6);
    EXPECT_LE(relative_error(product(f32, matrix.view(), heavy), oracle(matrix.view(), heavy)), 1e-6);
  }
}

TEST_P(PackingTest, InfinityAndNanInTheInputStayVisible) {
  const int cols = GetParam().group == 0 ? 24 : 3 * GetParam().group;
  const TestMatrix matrix(GetParam(), 9, cols, 9);
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : kinds()) {
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        for (const int rows : {1, 4}) {
          auto x = Random(10).normal(static_cast<std::size_t>(rows * cols));
          x[static_cast<std::size_t>(cols - 2)] = bad;
          const auto y = product({*isa, alone_, kind}, matrix.view(), x);
          for (std::size_t i = 0; i < y.size(); ++i) {
            // Only the first row is bad. An f32 product with a zero weight or an infinity of one sign is no NaN.
            EXPECT_EQ(std::isfinite(y[i]), i >= 9) << isa->name << " " << bad << " " << i;
          }
        }
      }
    }
  }
}

TEST_P(PackingTest, ZeroAndTinyInputsKeepTheirPrecision) {
  const int cols = GetParam().group == 0 ? 64 : 4 * GetParam().group;
  const TestMatrix matrix(GetParam(), 8, cols, 11);
  for (const Isa* isa : supported_isas()) {
    for (const ActivationKind kind : kinds()) {
      const Context context{*isa, alone_, kind};
      const std::vector<float> zero(static_cast<std::size_t>(cols));
      EXPECT_EQ(bits_of(product(context, matrix.view(), zero)), bits_of(std::vector<float>(8)));
      // Down to where 32639 / max|x| would overflow; the scale of the group is a normal number all the same.
      for (const float size : {1e-20F, 1e-30F, 1e-32F}) {
        const auto x = Random(12).normal(static_cast<std::size_t>(cols), size);
        EXPECT_LE(relative_error(product(context, matrix.view(), x), oracle(matrix.view(), x)), 1e-4) << size;
      }
    }
  }
}

TEST(Matmul, SeveralProjectionsOfDifferentFormatsAreOneDispatchAndGiveTheBitsOfEachAlone) {
  constexpr int kCols = 256;
  constexpr int kRows = 3;
  const TestMatrix q({Mode::affine, 4, 64, DType::bf16}, 21, kCols, 13);
  const TestMatrix k({Mode::affine, 8, 32, DType::f16}, 5, kCols, 14);
  const TestMatrix v(plain_format(DType::bf16), 9, kCols, 15);
  const TestMatrix gate({Mode::mxfp4, 4, 32, DType::u8}, 1, kCols, 16);
  const auto x = Random(17).normal(kRows * kCols);
  for (const Isa* isa : supported_isas()) {
    ThreadTeam team(2);
    const Context context{*isa, team};
    Workspace workspace;
    constexpr std::int64_t kStride = 23;  // wider than any matrix: what lies between is left alone
    std::vector<std::vector<float>> y(4, std::vector<float>(kRows * kStride, -1.0F));
    const MatrixView* views[] = {&q.view(), &k.view(), &v.view(), &gate.view()};
    std::vector<Projection> projections;
    for (std::size_t p = 0; p < 4; ++p) projections.push_back({views[p], y[p].data(), kStride});
    const auto before = team.dispatches();
    matmul(context, x.data(), kRows, projections, workspace);
    EXPECT_EQ(team.dispatches() - before, 1U);
    for (std::size_t p = 0; p < 4; ++p) {
      const auto alone = product(context, *views[p], x);
      std::vector<float> expected(kRows * kStride, -1.0F);
      const int out = views[p]->rows;
      for (int row = 0; row < kRows; ++row) {
        std::copy_n(alone.begin() + row * out, out, expected.begin() + row * kStride);
      }
      EXPECT_EQ(bits_of(y[p]), bits_of(expected)) << isa->name << " projection " << p;
    }
  }
}

TEST(Matmul, NothingIsAllocatedTheSecondTime) {
  const TestMatrix matrix({Mode::affine, 4, 64, DType::bf16}, 64, 512, 18);
  const auto x = Random(19).normal(40 * 512);
  std::vector<float> y(40 * 64);
  ThreadTeam team(2);
  const Context context{select_isa(""), team};
  Workspace workspace;
  const Projection projection{&matrix.view(), y.data(), 64};
  matmul(context, x.data(), 40, {&projection, 1}, workspace);
  const std::size_t capacity = workspace.capacity();
  EXPECT_GT(capacity, 0U);
  for (int i = 0; i < 100; ++i) matmul(context, x.data(), 40, {&projection, 1}, workspace);
  EXPECT_EQ(workspace.capacity(), capacity);
}

TEST(Matmul, NoRowsAndNoProjectionsAreNoWork) {
  const TestMatrix matrix({Mode::affine, 4, 64, DType::bf16}, 8, 64, 20);
  ThreadTeam team(2);
  const Context context{select_isa(""), team};
  Workspace workspace;
  float y = 5.0F;
  const Projection projection{&matrix.view(), &y, 8};
  matmul(context, nullptr, 0, {&projection, 1}, workspace);
  matmul(context, nullptr, 1, {}, workspace);
  EXPECT_EQ(team.dispatches(), 0U);
  EXPECT_EQ(y, 5.0F);
}

// One group whose largest activation is a 32639, so that the codes are the integers themselves.
TEST(Matmul, TheInt16StepIsTheCanonicalFormula) {
  constexpr int kGroup = 32;
  TestMatrix matrix({Mode::affine, 4, kGroup, DType::f32}, 1, kGroup, 21);
  const float scale = -0.3F;
  const float bias = 0.7F;
  put_float(matrix.scales(), 0, DType::f32, scale);
  put_float(matrix.biases(), 0, DType::f32, bias);
  std::vector<float> x(kGroup, 0.0F);
  x[0] = kActivationMax;
  x[1] = -12.4F;                        // rounds to -12
  x[2] = 2.5F;                          // to even: 2
  matrix.codes()[0] = std::byte{0x5F};  // codes 15, 5
  matrix.codes()[1] = std::byte{0x03};  // code 3
  const float products = 15 * 32639 - 5 * 12 + 3 * 2;
  const float expected = std::fma(bias, 32639.0F - 12 + 2, scale * products);
  for (const Isa* isa : supported_isas()) {
    ThreadTeam alone(1);
    EXPECT_EQ(product({*isa, alone}, matrix.view(), x), std::vector{expected}) << isa->name;
  }
}

class ScaleRangeTest : public testing::TestWithParam<const Isa*> {
 protected:
  ThreadTeam alone_{1};
};

INSTANTIATE_TEST_SUITE_P(Isas, ScaleRangeTest, testing::ValuesIn(supported_isas()), isa_name);

TEST_P(ScaleRangeTest, DenormalAndHugeAffineScalesKeepTheirValue) {
  constexpr int kCols = 128;
  const auto x = Random(22).normal(kCols);
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const float scale : {type == DType::f16 ? 0x1p-24F : 1e-39F, -3e-5F, type == DType::f16 ? -65504.0F : 1e28F}) {
      for (const std::uint8_t bits : {2, 3, 4, 8}) {
        TestMatrix matrix({Mode::affine, bits, 64, type}, 3, kCols, 23);
        for (std::size_t i = 0; i < 6; ++i) {
          put_float(matrix.scales(), i, type, scale);
          put_float(matrix.biases(), i, type, -scale);
        }
        // The products of denormal scales are denormal themselves and have few bits left.
        const double bound = std::abs(scale) < 1e-38F ? 1e-3 : 1e-4;
        const auto y = product({*GetParam(), alone_}, matrix.view(), x);
        EXPECT_LE(relative_error(y, oracle(matrix.view(), x)), bound) << scale << " " << static_cast<int>(bits);
      }
    }
  }
}

TEST_P(ScaleRangeTest, E8m0ScaleBytesZeroAnd255AreTheSmallestPowerAndInfinity) {
  for (const Format& format : {Format{Mode::mxfp4, 4, 32, DType::u8}, Format{Mode::mxfp8, 8, 32, DType::u8}}) {
    for (const ActivationKind kind : {ActivationKind::int16, ActivationKind::f32}) {
      TestMatrix matrix(format, 9, 64, 24);
      const std::vector<float> x(64, 0x1p100F);  // brings 2^-127 back into range
      for (std::size_t i = 0; i < 18; ++i) matrix.scales()[i] = std::byte{0};
      const auto y = product({*GetParam(), alone_, kind}, matrix.view(), x);
      EXPECT_LE(relative_error(y, oracle(matrix.view(), x)), 1e-4);
      matrix.scales()[6] = std::byte{255};  // row 3
      const auto infinite = product({*GetParam(), alone_, kind}, matrix.view(), x);
      for (std::size_t row = 0; row < 9; ++row) EXPECT_EQ(std::isfinite(infinite[row]), row != 3) << row;
    }
  }
}

TEST_P(ScaleRangeTest, NanInAScaleStaysVisible) {
  for (const std::uint8_t bits : {2, 3, 4, 5, 6, 8}) {
    TestMatrix matrix({Mode::affine, bits, 32, DType::bf16}, 9, 96, 25);
    put_float(matrix.scales(), 3 * 2 + 1, DType::bf16, kNan);
    const auto y = product({*GetParam(), alone_}, matrix.view(), Random(26).normal(96));
    for (std::size_t row = 0; row < 9; ++row) EXPECT_EQ(std::isnan(y[row]), row == 2) << row;
  }
}

}  // namespace
}  // namespace sluice::kernels
