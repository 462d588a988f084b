// What the tests of vector operations and attention share: instruction sets, random numbers, comparison of bits.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace sluice::kernels {

inline std::vector<const Isa*> supported_isas() {
  std::vector<const Isa*> isas;
  for (const Isa& isa : all_isas()) {
    if (isa.supported()) isas.push_back(&isa);
  }
  return isas;
}

inline std::string isa_name(const testing::TestParamInfo<const Isa*>& info) { return std::string(info.param->name); }

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::vector<float> normal(std::size_t n, float deviation = 1.0F) {
    std::normal_distribution<float> distribution(0.0F, deviation);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }

 private:
  std::mt19937 engine_;
};

/// Values at which floating point is special, between ordinary ones.
inline std::vector<float> special_values() {
  using Limits = std::numeric_limits<float>;
  std::vector<float> values;
  for (const float x : {0.0F,
                        1.0F,
                        0.5F,
                        88.0F,
                        88.7228F,
                        88.7229F,
                        89.0F,
                        103.0F,
                        103.9721F,
                        104.0F,
                        1000.0F,
                        65504.0F,
                        65519.9F,
                        65520.0F,
                        0x1p-14F,
                        0x1p-24F,
                        0x1p-25F,
                        0x1.000002p-25F,
                        0x1.002p0F,
                        0x1.006p0F,
                        0x1.01p0F,
                        0x1.03p0F,
                        Limits::min(),
                        Limits::denorm_min(),
                        Limits::max(),
                        Limits::infinity(),
                        Limits::quiet_NaN()}) {
    values.push_back(x);
    values.push_back(-x);
  }
  return values;
}

/// Distance from the exact value in units of the last place of the float nearest to it.
inline double ulps(float actual, double exact) {
  const auto rounded = static_cast<float>(std::abs(exact));
  const double ulp =
      std::max<double>(std::nextafter(rounded, std::numeric_limits<float>::infinity()) - rounded, 0x1p-149);
  return std::abs(static_cast<double>(actual) - exact) / ulp;
}

/// The bits of floats; every NaN is written the same way, since its sign and payload are not part of the arithmetic.
inline std::vector<std::uint32_t> bits_of(std::span<const float> values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values)
    bits.push_back(std::isnan(value) ? 0x7FC00000U : std::bit_cast<std::uint32_t>(value));
  return bits;
}

}  // namespace sluice::kernels
