// Elementary functions over the eight lanes F8 that the including file has defined (vector_lanes_*.h): no libm, and
// the same operations in the same order on every instruction set. docs/arithmetic.md states them in prose.
//
// Everything has internal linkage and calls no function of the standard library, since each instruction set compiles
// its own copy with its own flags. NaN stays NaN in all of them.
#pragma once

namespace sluice::kernels {
namespace {

constexpr float kInfinity = __builtin_inff();

// e^x = 2^k (1 + q), where `shifted` is 1.5 * 2^23 + k as scale_by_power takes it.
struct SplitPower {
  F8 q;
  F8 shifted;
};

// x = k ln2 + r, |r| <= ln2 / 2, q = r + r^2 p(r), where p has the least relative error (2^-28) for e^r.
inline SplitPower split_exp(F8 x) {
  const F8 shifter = splat(0x1.8p23F);  // adding it leaves the nearest integer in the low mantissa bits
  const F8 shifted = fma(x, splat(0x1.715476p0F), shifter);  // log2(e)
  const F8 k = sub(shifted, shifter);
  // ln2 in two parts; the first has 16 bits, so that its product with k is exact.
  const F8 r = fnma(k, splat(0x1.7f7d1cp-20F), fnma(k, splat(0x1.62e4p-1F), x));
  F8 p = splat(0x1.6a21cap-10F);
  p = fma(p, r, splat(0x1.123a08p-7F));
  p = fma(p, r, splat(0x1.5558f4p-5F));
  p = fma(p, r, splat(0x1.555492p-3F));
  p = fma(p, r, splat(0x1.fffffcp-2F));
  return {fma(mul(r, r), p, r), shifted};
}

// e^x with an error below 1 ulp; 0, infinity and denormals as rounding has them.
inline F8 exp_lanes(F8 x) {
  // Beyond these bounds the result is infinity and 0 already, and within them k fits. NaN passes: it comes second.
  const SplitPower split = split_exp(min(splat(89.0F), max(splat(-104.0F), x)));
  return scale_by_power(add(splat(1.0F), split.q), split.shifted);
}

inline F8 negate(F8 x) { return sub(splat(0.0F), x); }

// log(1 + t) for 0 <= t <= 1: twice the area tangent of s = t / (2 + t), as 2 s + 2 s^3 p(s^2). The error of p is
// 2^-27 of the result, so small t keep their relative precision.
inline F8 log1p_lanes(F8 t) {
  const F8 s = div(t, add(splat(2.0F), t));
  const F8 square = mul(s, s);
  F8 p = splat(0x1.1ed7cp-3F);
  p = fma(p, square, splat(0x1.1ebd0ep-3F));
  p = fma(p, square, splat(0x1.99d208p-3F));
  p = fma(p, square, splat(0x1.555502p-2F));
  const F8 twice_s = add(s, s);
  return fma(mul(twice_s, square), p, twice_s);
}

// log(1 + e^x) without overflow.
inline F8 softplus_lanes(F8 x) { return add(max(splat(0.0F), x), log1p_lanes(exp_lanes(min(x, negate(x))))); }

inline F8 sigmoid_lanes(F8 x) { return div(splat(1.0F), add(splat(1.0F), exp_lanes(negate(x)))); }

inline F8 silu_lanes(F8 x) { return div(x, add(splat(1.0F), exp_lanes(negate(x)))); }

// m / (m + 2) with m = e^2x - 1, which is precise near 0 too. Beyond |2x| = 40 the result is 1 or -1.
inline F8 tanh_lanes(F8 x) {
  const SplitPower split = split_exp(min(splat(40.0F), max(splat(-40.0F), add(x, x))));
  const F8 power = scale_by_power(splat(1.0F), split.shifted);
  const F8 m = fma(split.q, power, sub(power, splat(1.0F)));
  return div(m, add(m, splat(2.0F)));
}

// x/2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3).
inline F8 gelu_tanh_lanes(F8 x) {
  const F8 minus_2u = mul(x, fma(splat(-0.0713548163F), mul(x, x), splat(-1.5957691216F)));
  return div(x, add(splat(1.0F), exp_lanes(minus_2u)));
}

// gpt-oss: g sigmoid(1.702 g) (u + 1) with g cut at 7 and u at -7 and 7.
inline F8 clamped_swiglu_lanes(F8 gate, F8 up) {
  const F8 g = min(splat(7.0F), gate);
  const F8 u = min(splat(7.0F), max(splat(-7.0F), up));
  const F8 activated = div(g, add(splat(1.0F), exp_lanes(mul(splat(-1.702F), g))));
  return mul(activated, add(u, splat(1.0F)));
}

inline F8 relu2_lanes(F8 x) {
  const F8 positive = max(splat(0.0F), x);
  return mul(positive, positive);
}

}  // namespace
}  // namespace sluice::kernels
