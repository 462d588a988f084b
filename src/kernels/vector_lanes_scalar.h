// Eight float lanes in plain C++: the reference that every instruction set must match bit for bit.
//
// Included by vector_scalar.cc only. The functions have internal linkage, because each instruction set defines the
// same names with its own flags.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float16.h"

namespace sluice::kernels {
namespace {

constexpr int kLanes = 8;

struct F8 {
  float lane[kLanes];
};

template <typename Operation>
inline F8 each_lane(Operation operation) {
  F8 result;
  for (int i = 0; i < kLanes; ++i) result.lane[i] = operation(i);
  return result;
}

inline F8 splat(float x) {
  return each_lane([=](int) { return x; });
}
inline F8 load(const float* x) {
  return each_lane([=](int i) { return x[i]; });
}
// Has the compiler hold in a register what is used several times, instead of loading it for every use.
inline void keep(const F8&) {}
// The first n lanes, n < 8; the others are zero.
inline F8 load_part(const float* x, int n) {
  return each_lane([=](int i) { return i < n ? x[i] : 0.0F; });
}
inline void store(float* y, F8 a) { std::memcpy(y, a.lane, sizeof(a.lane)); }
inline void store_part(float* y, F8 a, int n) { std::memcpy(y, a.lane, static_cast<std::size_t>(n) * sizeof(float)); }

inline F8 add(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline F8 sub(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline F8 mul(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline F8 div(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline F8 sqrt(F8 a) {
  return each_lane([&](int i) { return std::sqrt(a.lane[i]); });
}
// a * b + c with one rounding.
inline F8 fma(F8 a, F8 b, F8 c) {
  return each_lane([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
// c - a * b with one rounding.
inline F8 fnma(F8 a, F8 b, F8 c) {
  return each_lane([&](int i) { return std::fma(-a.lane[i], b.lane[i], c.lane[i]); });
}
// If either operand is NaN, the result is the second one, as the vector instructions have it.
inline F8 min(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F8 max(F8 a, F8 b) {
  return each_lane([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}

// Lanes 2i and 2i + 1 change places.
inline F8 swap_pairs(F8 a) {
  return each_lane([&](int i) { return a.lane[i ^ 1]; });
}
// Four floats, each of them in two lanes: x0 x0 x1 x1 x2 x2 x3 x3.
inline F8 load_twice(const float* x) {
  return each_lane([=](int i) { return x[i / 2]; });
}

// The fixed tree of every horizontal reduction: lane j with j + 4, then j + 2, then j + 1.
inline float sum(F8 a) {
  const float* v = a.lane;
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
inline float max_lane(F8 a) {
  float largest = a.lane[0];
  for (const float x : a.lane) largest = x > largest ? x : largest;
  return largest;
}
// Lane i is sum(a[i]).
inline F8 sum_each(const F8 (&a)[kLanes]) {
  return each_lane([&](int i) { return sum(a[i]); });
}

// x * 2^k per lane, where `shifted` holds 1.5 * 2^23 + k and -151 <= k <= 128. In two steps, so that a result beyond
// the range becomes infinity and one below it a correctly rounded denormal.
inline F8 scale_by_power(F8 x, F8 shifted) {
  return each_lane([&](int i) {
    const std::int32_t k = std::bit_cast<std::int32_t>(shifted.lane[i]) - std::bit_cast<std::int32_t>(0x1.8p23F);
    const std::int32_t half = k >> 1;
    const auto power = [](std::int32_t exponent) { return std::bit_cast<float>((exponent + 127) << 23); };
    return x.lane[i] * power(half) * power(k - half);
  });
}

// Eight 16-bit floats, to f32 exactly and back by rounding to nearest even.
inline F8 load_f16(const std::uint16_t* x) {
  return each_lane([=](int i) { return f16_to_f32(x[i]); });
}
inline F8 load_bf16(const std::uint16_t* x) {
  return each_lane([=](int i) { return bf16_to_f32(x[i]); });
}
inline void store_f16(std::uint16_t* y, F8 a) {
  for (int i = 0; i < kLanes; ++i) y[i] = f32_to_f16(a.lane[i]);
}
inline void store_bf16(std::uint16_t* y, F8 a) {
  for (int i = 0; i < kLanes; ++i) y[i] = f32_to_bf16(a.lane[i]);
}

// Eight signed bytes, exactly; and back from lanes that hold 1.5 * 2^23 + an integer from -128 to 127.
inline F8 load_i8(const std::int8_t* x) {
  return each_lane([=](int i) { return static_cast<float>(x[i]); });
}
inline void store_i8(std::int8_t* y, F8 shifted) {
  for (int i = 0; i < kLanes; ++i) y[i] = static_cast<std::int8_t>(std::bit_cast<std::uint32_t>(shifted.lane[i]));
}

}  // namespace
}  // namespace sluice::kernels
