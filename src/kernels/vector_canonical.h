// The canonical arithmetic of norms, activation functions, softmax and rotary embedding, written once over the eight
// lanes F8 that the including file has defined (vector_lanes_*.h). Which operations, in which order, is settled here
// and only here; docs/arithmetic.md states it in prose.
//
// Everything has internal linkage and calls no function of the standard library, since each instruction set compiles
// its own copy with its own flags. Elements beyond the end of a row count as zero.
#pragma once

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = __builtin_inff();

// e^x with an error below 1 ulp; 0, infinity and denormals as rounding has them, NaN stays NaN.
// x = k ln2 + r, |r| <= ln2 / 2, e^x = 2^k (1 + r + r^2 p(r)), where p has the least relative error (2^-28) for e^r.
inline F8 exp_lanes(F8 x) {
  const F8 shifter = splat(0x1.8p23F);  // adding it leaves the nearest integer in the low mantissa bits
  // Beyond these bounds the result is infinity and 0 already, and within them k fits. NaN passes: it comes second.
  const F8 clamped = min(splat(89.0F), max(splat(-104.0F), x));
  const F8 shifted = fma(clamped, splat(0x1.715476p0F), shifter);  // log2(e)
  const F8 k = sub(shifted, shifter);
  // ln2 in two parts; the first has 16 bits, so that its product with k is exact.
  const F8 r = fnma(k, splat(0x1.7f7d1cp-20F), fnma(k, splat(0x1.62e4p-1F), clamped));
  F8 p = splat(0x1.6a21cap-10F);
  p = fma(p, r, splat(0x1.123a08p-7F));
  p = fma(p, r, splat(0x1.5558f4p-5F));
  p = fma(p, r, splat(0x1.555492p-3F));
  p = fma(p, r, splat(0x1.fffffcp-2F));
  return scale_by_power(add(splat(1.0F), fma(mul(r, r), p, r)), shifted);
}

inline F8 silu_lanes(F8 x) { return div(x, add(splat(1.0F), exp_lanes(sub(splat(0.0F), x)))); }

// Calls whole(i) for every full group of eight elements below n, and part(i, count) for the rest if there is one.
template <typename Whole, typename Part>
inline void for_groups(int64_t n, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) whole(i);
  if (i < n) part(i, static_cast<int>(n - i));
}

void add_row(const float* x, int64_t n, float* y) {
  for_groups(
      n, [=](int64_t i) { store(y + i, add(load(y + i), load(x + i))); },
      [=](int64_t i, int count) { store_part(y + i, add(load_part(y + i, count), load_part(x + i, count)), count); });
}

void exp_row(const float* x, int64_t n, float* y) {
  for_groups(
      n, [=](int64_t i) { store(y + i, exp_lanes(load(x + i))); },
      [=](int64_t i, int count) { store_part(y + i, exp_lanes(load_part(x + i, count)), count); });
}

void swiglu_row(const float* gate, const float* up, int64_t n, float* y) {
  for_groups(
      n, [=](int64_t i) { store(y + i, mul(silu_lanes(load(gate + i)), load(up + i))); },
      [=](int64_t i, int count) {
        store_part(y + i, mul(silu_lanes(load_part(gate + i, count)), load_part(up + i, count)), count);
      });
}

void rms_norm_row(const float* x, int n, const float* weight, float eps, float* y) {
  F8 squares = splat(0.0F);
  for_groups(
      n, [&](int64_t i) { squares = fma(load(x + i), load(x + i), squares); },
      [&](int64_t i, int count) { squares = fma(load_part(x + i, count), load_part(x + i, count), squares); });
  const F8 mean = div(splat(sum(squares)), splat(static_cast<float>(n)));
  const F8 scale = div(splat(1.0F), sqrt(add(mean, splat(eps))));
  for_groups(
      n, [=](int64_t i) { store(y + i, mul(load(weight + i), mul(load(x + i), scale))); },
      [=](int64_t i, int count) {
        store_part(y + i, mul(load_part(weight + i, count), mul(load_part(x + i, count), scale)), count);
      });
}

void softmax_row(float* logits, int n) {
  F8 maxima = splat(-kInfinity);
  float largest = -kInfinity;  // the order in which a maximum is taken does not change it
  for_groups(
      n, [&](int64_t i) { maxima = max(maxima, load(logits + i)); },
      [&](int64_t i, int count) {
        for (int j = 0; j < count; ++j) largest = logits[i + j] > largest ? logits[i + j] : largest;
      });
  largest = max_lane(max(maxima, splat(largest)));
  const F8 shift = splat(largest);
  F8 total = splat(0.0F);
  for_groups(
      n,
      [&](int64_t i) {
        const F8 e = exp_lanes(sub(load(logits + i), shift));
        store(logits + i, e);
        total = add(total, e);
      },
      [&](int64_t i, int count) {
        store_part(logits + i, exp_lanes(sub(load_part(logits + i, count), shift)), count);
        total = add(total, load_part(logits + i, count));  // read back, so that lanes beyond the end are zero
      });
  const F8 divisor = splat(sum(total));
  for_groups(
      n, [=](int64_t i) { store(logits + i, div(load(logits + i), divisor)); },
      [=](int64_t i, int count) { store_part(logits + i, div(load_part(logits + i, count), divisor), count); });
}

// (a, b) -> (a cos - b sin, a sin + b cos); the product with the cosine is rounded before the sum.
void rotate_halves_row(float* x, const float* cos_sin, int half) {
  struct Pair {
    F8 a, b;
  };
  const auto rotate = [](F8 a, F8 b, F8 cosine, F8 sine) -> Pair {
    return {fnma(b, sine, mul(a, cosine)), fma(a, sine, mul(b, cosine))};
  };
  for_groups(
      half,
      [=](int64_t i) {
        const Pair rotated = rotate(load(x + i), load(x + half + i), load(cos_sin + i), load(cos_sin + half + i));
        store(x + i, rotated.a);
        store(x + half + i, rotated.b);
      },
      [=](int64_t i, int count) {
        const Pair rotated = rotate(load_part(x + i, count), load_part(x + half + i, count),
                                    load_part(cos_sin + i, count), load_part(cos_sin + half + i, count));
        store_part(x + i, rotated.a, count);
        store_part(x + half + i, rotated.b, count);
      });
}

void encode_row(DType type, const float* x, int n, std::byte* y) {
  if (type == DType::f32) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const auto encode = [type](uint16_t* to, F8 from) {
    type == DType::f16 ? store_f16(to, from) : store_bf16(to, from);
  };
  auto* out = reinterpret_cast<uint16_t*>(y);
  for_groups(
      n, [=](int64_t i) { encode(out + i, load(x + i)); },
      [=](int64_t i, int count) {
        uint16_t last[kLanes];
        encode(last, load_part(x + i, count));
        __builtin_memcpy(out + i, last, static_cast<size_t>(count) * sizeof(uint16_t));
      });
}

// The reverse: n elements of `type` to f32, followed by zeros up to a multiple of eight.
void decode_row(DType type, const std::byte* x, int n, float* y) {
  if (type == DType::f32) {
    const auto* in = reinterpret_cast<const float*>(x);
    for_groups(
        n, [=](int64_t i) { store(y + i, load(in + i)); },
        [=](int64_t i, int count) { store(y + i, load_part(in + i, count)); });
    return;
  }
  const auto decode = [type](const uint16_t* from) { return type == DType::f16 ? load_f16(from) : load_bf16(from); };
  const auto* in = reinterpret_cast<const uint16_t*>(x);
  for_groups(
      n, [=](int64_t i) { store(y + i, decode(in + i)); },
      [=](int64_t i, int count) {
        uint16_t last[kLanes] = {};
        __builtin_memcpy(last, in + i, static_cast<size_t>(count) * sizeof(uint16_t));
        store(y + i, decode(last));
      });
}

}  // namespace
}  // namespace sluice::kernels
