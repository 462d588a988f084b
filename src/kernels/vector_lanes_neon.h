// Eight float lanes in two AArch64 vector registers. The meaning of each function is stated in vector_lanes_scalar.h.
//
// Included by vector_neon.cc only. Intrinsics and C headers alone, as in vector_lanes_avx2.h.
#pragma once

#include <arm_neon.h>
#include <stdint.h>

namespace sluice::kernels {
namespace {

constexpr int kLanes = 8;

struct F8 {
  float32x4_t low, high;
};

template <typename Operation>
inline F8 each_half(F8 a, Operation operation) {
  return {operation(a.low), operation(a.high)};
}
template <typename Operation>
inline F8 each_half(F8 a, F8 b, Operation operation) {
  return {operation(a.low, b.low), operation(a.high, b.high)};
}

inline F8 splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline F8 load(const float* x) { return {vld1q_f32(x), vld1q_f32(x + 4)}; }
inline void keep(F8& a) { asm("" : "+w"(a.low), "+w"(a.high)); }
inline F8 load_part(const float* x, int n) {
  float padded[kLanes] = {};
  __builtin_memcpy(padded, x, static_cast<unsigned long>(n) * sizeof(float));
  return load(padded);
}
inline void store(float* y, F8 a) {
  vst1q_f32(y, a.low);
  vst1q_f32(y + 4, a.high);
}
inline void store_part(float* y, F8 a, int n) {
  float all[kLanes];
  store(all, a);
  __builtin_memcpy(y, all, static_cast<unsigned long>(n) * sizeof(float));
}

inline F8 add(F8 a, F8 b) { return each_half(a, b, vaddq_f32); }
inline F8 sub(F8 a, F8 b) { return each_half(a, b, vsubq_f32); }
inline F8 mul(F8 a, F8 b) { return each_half(a, b, vmulq_f32); }
inline F8 div(F8 a, F8 b) { return each_half(a, b, vdivq_f32); }
inline F8 sqrt(F8 a) { return each_half(a, vsqrtq_f32); }
inline F8 fma(F8 a, F8 b, F8 c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
inline F8 fnma(F8 a, F8 b, F8 c) { return {vfmsq_f32(c.low, a.low, b.low), vfmsq_f32(c.high, a.high, b.high)}; }
// By comparison, because the instructions for minimum and maximum treat NaN otherwise.
inline F8 min(F8 a, F8 b) {
  return each_half(a, b, [](float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); });
}
inline F8 max(F8 a, F8 b) {
  return each_half(a, b, [](float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); });
}

inline F8 swap_pairs(F8 a) { return each_half(a, vrev64q_f32); }
inline F8 load_twice(const float* x) {
  const float32x4_t four = vld1q_f32(x);
  return {vzip1q_f32(four, four), vzip2q_f32(four, four)};
}

// Lanes 0 + 4 + (2 + 6) and 1 + 5 + (3 + 7): what is left of the tree of sum() is one addition.
inline float32x2_t sum_pair(F8 a) {
  const float32x4_t four = vaddq_f32(a.low, a.high);
  return vadd_f32(vget_low_f32(four), vget_high_f32(four));
}
inline float sum(F8 a) {
  const float32x2_t two = sum_pair(a);
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float max_lane(F8 a) {
  float lanes[kLanes];
  store(lanes, a);
  float largest = lanes[0];
  for (const float x : lanes) largest = x > largest ? x : largest;
  return largest;
}
inline F8 sum_each(const F8 (&a)[kLanes]) {
  const auto four = [&](int i) {
    return vcombine_f32(vpadd_f32(sum_pair(a[i]), sum_pair(a[i + 1])),
                        vpadd_f32(sum_pair(a[i + 2]), sum_pair(a[i + 3])));
  };
  return {four(0), four(4)};
}

inline F8 scale_by_power(F8 x, F8 shifted) {
  return each_half(x, shifted, [](float32x4_t value, float32x4_t shifted_k) {
    const int32x4_t k = vsubq_s32(vreinterpretq_s32_f32(shifted_k), vreinterpretq_s32_f32(vdupq_n_f32(0x1.8p23F)));
    const int32x4_t half = vshrq_n_s32(k, 1);
    const auto power = [](int32x4_t exponent) {
      return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23));
    };
    return vmulq_f32(vmulq_f32(value, power(half)), power(vsubq_s32(k, half)));
  });
}

inline F8 load_f16(const uint16_t* x) {
  const float16x8_t eight = vreinterpretq_f16_u16(vld1q_u16(x));
  return {vcvt_f32_f16(vget_low_f16(eight)), vcvt_high_f32_f16(eight)};
}
inline F8 load_bf16(const uint16_t* x) {
  const uint16x8_t eight = vld1q_u16(x);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(eight), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(eight, 16))};
}
inline void store_f16(uint16_t* y, F8 a) {
  vst1q_u16(y, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}
inline void store_bf16(uint16_t* y, F8 a) {
  const auto round = [](float32x4_t value) {
    const uint32x4_t bits = vreinterpretq_u32_f32(value);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vbslq_u32(vceqq_f32(value, value), rounded, quiet);
  };
  vst1q_u16(y, vshrn_high_n_u32(vshrn_n_u32(round(a.low), 16), round(a.high), 16));
}

inline F8 load_i8(const int8_t* x) {
  const int16x8_t eight = vmovl_s8(vld1_s8(x));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight))), vcvtq_f32_s32(vmovl_high_s16(eight))};
}
inline void store_i8(int8_t* y, F8 shifted) {
  const uint16x4_t low = vmovn_u32(vreinterpretq_u32_f32(shifted.low));
  vst1_s8(y, vreinterpret_s8_u8(vmovn_u16(vmovn_high_u32(low, vreinterpretq_u32_f32(shifted.high)))));
}

}  // namespace
}  // namespace sluice::kernels
