#include "base/float16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sluice {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The value of f16 bits by the definition of the format, in double.
double f16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1F;
  const int mantissa = bits & 0x3FF;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa == 0 ? sign * HUGE_VAL : std::nan("");
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(Float16, EveryF16ConvertsExactlyAndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(f16_value(half))) {
      ASSERT_TRUE(std::isnan(value));
      ASSERT_EQ(f32_to_f16(value), half | 0x200) << "NaN comes back quiet, with its payload";
    } else {
      ASSERT_EQ(value, f16_value(half));
      ASSERT_EQ(f32_to_f16(value), half);
    }
  }
}

TEST(Float16, RoundsToTheNearestF16AndTiesToEven) {
  // Between neighbours a < b, everything below the middle is a, everything above is b, the middle is the even one.
  for (std::uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const auto below = static_cast<std::uint16_t>(bits), above = static_cast<std::uint16_t>(bits + 1);
    const auto middle = static_cast<float>((f16_value(below) + f16_value(above)) / 2);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), below) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, kInfinity)), above) << bits;
    ASSERT_EQ(f32_to_f16(middle), bits % 2 == 0 ? below : above) << bits;
    ASSERT_EQ(f32_to_f16(-middle), (bits % 2 == 0 ? below : above) | 0x8000) << bits;
  }
}

TEST(Float16, BeyondTheLargestF16IsInfinity) {
  EXPECT_EQ(f32_to_f16(65519.996F), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xFC00);
  EXPECT_EQ(f32_to_f16(kInfinity), 0x7C00);
  EXPECT_EQ(f32_to_f16(1e-30F), 0x0000);
  EXPECT_EQ(f32_to_f16(-1e-30F), 0x8000);
}

TEST(Float16, Bf16IsTheUpperHalfRoundedToEven) {
  EXPECT_EQ(f32_to_bf16(1.0F), 0x3F80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808000U)), 0x3F80) << "tie, even below";
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F818000U)), 0x3F82) << "tie, even above";
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80) << "overflow is infinity";
  EXPECT_EQ(f32_to_bf16(-kInfinity), 0xFF80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7F800001U)), 0x7FC0) << "NaN must not round to infinity";
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x00000001U)), 0x0000);
}

TEST(Float16, EveryBf16ConvertsExactlyAndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = static_cast<std::uint16_t>(bits);
    const float value = bf16_to_f32(narrow);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), bits << 16);
    ASSERT_EQ(f32_to_bf16(value), std::isnan(value) ? bits | 0x40 : bits);
  }
}

}  // namespace
}  // namespace sluice
