// Rounding weights to the affine format: golden values of MLX, and what must hold for any weights.
#include "kernels/affine_encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "kernels/matmul.h"
#include "kernels/quant_fixture.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

/// Elements of a fixture's tensor of the scales' type, in f32.
std::vector<float> floats(const QuantFixture& fixture, const std::string& name, DType type) {
  if (type == DType::f32) return fixture.values<float>(name);
  std::vector<float> values;
  for (const std::uint16_t bits : fixture.values<std::uint16_t>(name)) {
    values.push_back(type == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits));
  }
  return values;
}

struct Encoded {
  std::vector<std::byte> codes, scales, biases;
};

Encoded encode(const Format& format, const float* w, int n) {
  Encoded result;
  // Whatever lies there before must not matter.
  result.codes.assign(static_cast<std::size_t>(code_row_bytes(format, n)), std::byte{0xA5});
  result.scales.assign(static_cast<std::size_t>(scale_row_bytes(format, n)), std::byte{0xA5});
  result.biases = result.scales;
  encode_affine(format, w, n, result.codes.data(), result.scales.data(), result.biases.data());
  return result;
}

std::vector<float> decode(const Format& format, const Encoded& row, int n) {
  std::vector<float> w(static_cast<std::size_t>(n));
  dequantize_row(make_view(format, 1, n, row.codes.data(), row.scales.data(), row.biases.data()), 0, w.data());
  return w;
}

/// Every legal affine format with scales of one type.
std::vector<Format> formats(DType type) {
  std::vector<Format> all;
  for (const std::uint8_t bits : {2, 3, 4, 5, 6, 8}) {
    for (const std::uint16_t group : {32, 64, 128}) all.push_back({Mode::affine, bits, group, type});
  }
  return all;
}

std::vector<QuantCase> affine_cases() {
  std::vector<QuantCase> cases;
  for (const QuantCase& one : quant_cases()) {
    if (one.format.mode == Mode::affine) cases.push_back(one);
  }
  return cases;
}

class AffineEncodeFixture : public testing::TestWithParam<QuantCase> {};

/// Among them all-zero, constant, all-negative and all-positive groups.
TEST_P(AffineEncodeFixture, GivesTheBytesOfTheReference) {
  const QuantFixture fixture(GetParam().file);
  const Format& format = GetParam().format;
  const int cols = fixture.shape("w").back();
  const std::vector<float> w = floats(fixture, "w", format.scale_type);
  const std::size_t rows = w.size() / static_cast<std::size_t>(cols);
  const auto code_bytes = static_cast<std::size_t>(code_row_bytes(format, cols));
  const auto scale_bytes = static_cast<std::size_t>(scale_row_bytes(format, cols));
  for (std::size_t row = 0; row < rows; ++row) {
    const Encoded found = encode(format, &w[row * static_cast<std::size_t>(cols)], cols);
    EXPECT_EQ(std::memcmp(found.codes.data(), fixture.data("packed") + row * code_bytes, code_bytes), 0) << row;
    EXPECT_EQ(std::memcmp(found.scales.data(), fixture.data("scales") + row * scale_bytes, scale_bytes), 0) << row;
    EXPECT_EQ(std::memcmp(found.biases.data(), fixture.data("biases") + row * scale_bytes, scale_bytes), 0) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, AffineEncodeFixture, testing::ValuesIn(affine_cases()),
                         [](const auto& test) { return test.param.file.substr(0, test.param.file.find('.')); });

TEST(AffineEncode, EveryWeightGoesToTheNearestLevelAndTheEdgeIsExact) {
  Random random(1);
  for (const Format& format : formats(DType::f32)) {
    for (const float offset : {0.0F, 3.0F, -3.0F}) {  // groups of one sign too
      std::vector<float> w = random.normal(256);
      for (float& value : w) value += offset;
      const Encoded row = encode(format, w.data(), 256);
      const std::vector<float> back = decode(format, row, 256);
      for (int first = 0; first < 256; first += format.group) {
        float scale, bias;
        std::memcpy(&scale, row.scales.data() + first / format.group * 4, 4);
        std::memcpy(&bias, row.biases.data() + first / format.group * 4, 4);
        float edge = 0;
        for (int i = first; i < first + format.group; ++i) {
          const auto at = static_cast<std::size_t>(i);
          float nearest = std::numeric_limits<float>::infinity();
          for (int q = 0; q < 1 << format.bits; ++q) {
            nearest = std::min(nearest, std::abs(scale * static_cast<float>(q) + bias - w[at]));
          }
          EXPECT_LE(std::abs(back[at] - w[at]), nearest + 1e-6F) << to_string(format);
          if (std::abs(w[at]) > std::abs(edge)) edge = w[at];
        }
        EXPECT_EQ(std::count(back.begin() + first, back.begin() + first + format.group, edge) > 0, true);
      }
    }
  }
}

TEST(AffineEncode, ConstantGroupsComeBackExactly) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    for (const Format& format : formats(type)) {
      for (const float value : {0.0F, 0.75F, -0.75F, 1024.0F}) {
        const std::vector<float> w(128, value);
        EXPECT_EQ(decode(format, encode(format, w.data(), 128), 128), w) << to_string(format);
      }
    }
  }
}

TEST(AffineEncode, ARowIsItsGroupsOneByOne) {
  Random random(2);
  const std::vector<float> w = random.normal(256);
  for (const Format& format : formats(DType::bf16)) {
    const Encoded row = encode(format, w.data(), 256);
    Encoded parts;
    for (int first = 0; first < 256; first += format.group) {
      const Encoded part = encode(format, &w[static_cast<std::size_t>(first)], format.group);
      parts.codes.insert(parts.codes.end(), part.codes.begin(), part.codes.end());
      parts.scales.insert(parts.scales.end(), part.scales.begin(), part.scales.end());
      parts.biases.insert(parts.biases.end(), part.biases.begin(), part.biases.end());
    }
    EXPECT_EQ(row.codes, parts.codes) << to_string(format);
    EXPECT_EQ(row.scales, parts.scales) << to_string(format);
    EXPECT_EQ(row.biases, parts.biases) << to_string(format);
  }
}

TEST(AffineEncode, ANotANumberStaysInItsGroup) {
  const Format format{Mode::affine, 4, 32, DType::f32};
  Random random(3);
  std::vector<float> w = random.normal(64);
  const std::vector<float> clean = decode(format, encode(format, w.data(), 64), 64);
  w[5] = std::nanf("");
  const std::vector<float> back = decode(format, encode(format, w.data(), 64), 64);
  EXPECT_EQ(std::vector<float>(back.begin() + 32, back.end()), std::vector<float>(clean.begin() + 32, clean.end()));
}

}  // namespace
}  // namespace sluice::kernels
