#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/float16.h"
#include "model/synth/fill.h"

namespace sluice::model::synth {
namespace {

constexpr std::uint64_t kStream = 77;

std::vector<std::byte> filled(const Fill& fill, DType dtype, std::size_t count, std::uint64_t stream = kStream) {
  std::vector<std::byte> bytes(count * size_of(dtype));
  fill_bytes(fill, dtype, stream, 0, bytes);
  return bytes;
}

std::vector<double> numbers(const Fill& fill, DType dtype, std::size_t count) {
  const std::vector<std::byte> bytes = filled(fill, dtype, count);
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) {
    if (dtype == DType::f32) {
      float value = 0;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      values.push_back(value);
    } else {
      std::uint16_t bits = 0;
      std::memcpy(&bits, bytes.data() + 2 * i, 2);
      values.push_back(dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits));
    }
  }
  return values;
}

struct Moments {
  double mean = 0, deviation = 0, low = 1e300, high = -1e300;
};

Moments moments(const std::vector<double>& values) {
  Moments m;
  double squares = 0;
  for (const double value : values) {
    m.mean += value / static_cast<double>(values.size());
    squares += value * value / static_cast<double>(values.size());
    m.low = std::min(m.low, value);
    m.high = std::max(m.high, value);
  }
  m.deviation = std::sqrt(squares - m.mean * m.mean);
  return m;
}

const std::vector<std::pair<Fill, DType>> kAllFills{
    {{FillKind::uniform, -1, 2}, DType::f32},        {{FillKind::uniform, -1, 2}, DType::bf16},
    {{FillKind::log_of_uniform, 1, 16}, DType::f32}, {{FillKind::softplus_inverse_of_log, 0.001, 0.1}, DType::bf16},
    {{FillKind::random_bits}, DType::u32},           {{FillKind::e4m3_codes}, DType::u32},
    {{FillKind::affine_scales, 0.1}, DType::f16},    {{FillKind::affine_biases, 0.1, 7.5}, DType::bf16},
    {{FillKind::scale_codes, 120, 0.3}, DType::u8}};

TEST(SynthFill, AnyPieceIsThatPieceOfTheWhole) {
  constexpr std::size_t kCount = 100;
  for (const auto& [fill, dtype] : kAllFills) {
    const std::vector<std::byte> whole = filled(fill, dtype, kCount);
    for (std::size_t begin = 0; begin < 20; ++begin) {
      for (const std::size_t size : {0U, 1U, 2U, 3U, 5U, 8U, 9U, 31U, 64U}) {
        std::vector<std::byte> piece(size);
        fill_bytes(fill, dtype, kStream, begin, piece);
        EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + static_cast<std::ptrdiff_t>(begin)))
            << static_cast<int>(fill.kind) << " from " << begin << ", " << size << " bytes";
      }
    }
  }
}

TEST(SynthFill, StreamsDifferByNameAndSeed) {
  EXPECT_EQ(random_stream("a.weight", 1), random_stream("a.weight", 1));
  EXPECT_NE(random_stream("a.weight", 1), random_stream("b.weight", 1));
  EXPECT_NE(random_stream("a.weight", 1), random_stream("a.weight", 2));
  EXPECT_NE(filled({FillKind::random_bits}, DType::u32, 8, random_stream("a", 1)),
            filled({FillKind::random_bits}, DType::u32, 8, random_stream("b", 1)));
}

TEST(SynthFill, EveryBitIsSetHalfTheTime) {
  constexpr std::size_t kWords = 20000;
  const std::vector<std::byte> bytes = filled({FillKind::random_bits}, DType::u32, kWords);
  std::array<int, 32> set{};
  for (std::size_t i = 0; i < kWords; ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes.data() + 4 * i, 4);
    for (std::size_t bit = 0; bit < 32; ++bit) set[bit] += static_cast<int>((word >> bit) & 1U);
  }
  // Six standard deviations of a fair coin.
  for (const int count : set) EXPECT_NEAR(count, kWords / 2, 6 * std::sqrt(kWords / 4.0));
}

TEST(SynthFill, UniformFillsItsInterval) {
  const Moments m = moments(numbers({FillKind::uniform, -1, 3}, DType::f32, 20000));
  EXPECT_NEAR(m.mean, 1, 0.05);
  EXPECT_NEAR(m.deviation, 4 / std::sqrt(12.0), 0.05);
  EXPECT_GE(m.low, -1);
  EXPECT_LE(m.high, 3);
}

TEST(SynthFill, StateSpaceParametersHaveTheirRanges) {
  for (const double value : numbers({FillKind::log_of_uniform, 1, 16}, DType::f32, 1000)) {
    EXPECT_GE(std::exp(value), 1 - 1e-6);
    EXPECT_LE(std::exp(value), 16.0001);
  }
  double smallest = 1, largest = 0;
  for (const double value : numbers({FillKind::softplus_inverse_of_log, 0.001, 0.1}, DType::f32, 1000)) {
    const double step = std::log1p(std::exp(value));
    EXPECT_GE(step, 0.000999);
    EXPECT_LE(step, 0.1001);
    smallest = std::min(smallest, step);
    largest = std::max(largest, step);
  }
  EXPECT_LT(smallest, 0.0015);
  EXPECT_GT(largest, 0.07);
}

TEST(SynthFill, AffineGroupsAreCentredOnZero) {
  constexpr double kMagnitude = 0.02;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const std::vector<double> scales = numbers({FillKind::affine_scales, kMagnitude}, dtype, 4000);
    const std::vector<double> biases = numbers({FillKind::affine_biases, kMagnitude, 7.5}, dtype, 4000);
    const Moments m = moments(scales);
    EXPECT_NEAR(m.mean, 0, kMagnitude * 0.08) << "both signs alike";
    EXPECT_NEAR(m.deviation, kMagnitude * affine_scale_rms(), kMagnitude * 0.01);
    double offset = 0;  // of a group's mean from zero, in scales
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const double mean = (7.5 * scales[i] + biases[i]) / scales[i];
      EXPECT_LE(std::abs(mean), 7.5 / 256) << "no more than the rounding of the bias";
      offset += mean / static_cast<double>(scales.size());
    }
    EXPECT_NEAR(offset, 0, 0.002);
  }
}

TEST(SynthFill, CodesHoldNoNan) {
  std::array<int, 256> seen{};
  for (const std::byte byte : filled({FillKind::e4m3_codes}, DType::u32, 20000))
    ++seen[std::to_integer<unsigned>(byte)];
  EXPECT_EQ(seen[0x7f], 0);
  EXPECT_EQ(seen[0xff], 0);
  for (unsigned code = 0; code < 256; ++code) {
    if ((code & 0x7fU) != 0x7fU) {
      EXPECT_GT(seen[code], 0) << code;
    }
  }
}

TEST(SynthFill, ScaleCodesAreTwoNeighboursInTheirProportion) {
  int next = 0;
  for (const std::byte byte : filled({FillKind::scale_codes, 120, 0.25}, DType::u8, 20000)) {
    const int code = std::to_integer<int>(byte);
    ASSERT_TRUE(code == 120 || code == 121) << code;
    next += code - 120;
  }
  EXPECT_NEAR(next / 20000.0, 0.25, 0.02);
}

}  // namespace
}  // namespace sluice::model::synth
