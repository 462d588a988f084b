// The canonical arithmetic of norms, activation functions, softmax and rotary embedding, written once over the eight
// lanes F8 that the including file has defined (vector_lanes_*.h). Which operations, in which order, is settled here
// and only here; docs/arithmetic.md states it in prose. Rules for this text: math_canonical.h.
//
// Elements beyond the end of a row count as zero.
#pragma once

#include "kernels/math_canonical.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

// How a loop over a row touches eight elements, or the fewer that are left at its end: those beyond read as zero and
// are not written.
struct WholeGroup {
  F8 get(const float* x) const { return load(x); }
  void put(float* y, F8 a) const { store(y, a); }
};
struct LastGroup {
  int count;
  F8 get(const float* x) const { return load_part(x, count); }
  void put(float* y, F8 a) const { store_part(y, a, count); }
};

// Calls body(i, group) for i = 0, 8, ... below n.
template <typename Body>
inline void for_groups(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, WholeGroup());
  if (i < n) body(i, LastGroup{static_cast<int>(n - i)});
}

// y = function(x), element by element.
template <typename Function>
inline void map_row(const float* x, int64_t n, float* y, Function function) {
  for_groups(n, [=](int64_t i, auto group) { group.put(y + i, function(group.get(x + i))); });
}

// y = function(a, b), element by element.
template <typename Function>
inline void zip_row(const float* a, const float* b, int64_t n, float* y, Function function) {
  for_groups(n, [=](int64_t i, auto group) { group.put(y + i, function(group.get(a + i), group.get(b + i))); });
}

void add_row(const float* x, int64_t n, float* y) { zip_row(y, x, n, y, add); }

void exp_row(const float* x, int64_t n, float* y) { map_row(x, n, y, exp_lanes); }
void sigmoid_row(const float* x, int64_t n, float* y) { map_row(x, n, y, sigmoid_lanes); }
void softplus_row(const float* x, int64_t n, float* y) { map_row(x, n, y, softplus_lanes); }
void tanh_row(const float* x, int64_t n, float* y) { map_row(x, n, y, tanh_lanes); }
void relu2_row(const float* x, int64_t n, float* y) { map_row(x, n, y, relu2_lanes); }

void swiglu_row(const float* gate, const float* up, int64_t n, float* y) {
  zip_row(gate, up, n, y, [](F8 g, F8 u) { return mul(silu_lanes(g), u); });
}
void gelu_tanh_glu_row(const float* gate, const float* up, int64_t n, float* y) {
  zip_row(gate, up, n, y, [](F8 g, F8 u) { return mul(gelu_tanh_lanes(g), u); });
}
void clamped_swiglu_row(const float* gate, const float* up, int64_t n, float* y) {
  zip_row(gate, up, n, y, clamped_swiglu_lanes);
}
void sigmoid_glu_row(const float* gate, const float* up, int64_t n, float* y) {
  zip_row(gate, up, n, y, [](F8 g, F8 u) { return mul(sigmoid_lanes(g), u); });
}

// 1 / sqrt(mean(x^2) + eps) in all lanes.
inline F8 inverse_magnitude(const float* x, int n, float eps) {
  F8 squares = splat(0.0F);
  for_groups(n, [&](int64_t i, auto group) { squares = fma(group.get(x + i), group.get(x + i), squares); });
  const F8 mean = div(splat(sum(squares)), splat(static_cast<float>(n)));
  return div(splat(1.0F), sqrt(add(mean, splat(eps))));
}

void rms_norm_row(const float* x, int n, const float* weight, float eps, float* y) {
  const F8 scale = inverse_magnitude(x, n, eps);
  if (weight == nullptr) {
    map_row(x, n, y, [=](F8 a) { return mul(a, scale); });
  } else {
    zip_row(x, weight, n, y, [=](F8 a, F8 w) { return mul(w, mul(a, scale)); });
  }
}

void layer_norm_row(const float* x, int n, const float* weight, const float* bias, float eps, float* y) {
  F8 total = splat(0.0F);
  for_groups(n, [&](int64_t i, auto group) { total = add(total, group.get(x + i)); });
  const F8 mean = div(splat(sum(total)), splat(static_cast<float>(n)));
  map_row(x, n, y, [=](F8 a) { return sub(a, mean); });
  rms_norm_row(y, n, weight, eps, y);
  add_row(bias, n, y);
}

void softmax_row(float* logits, int n) {
  F8 maxima = splat(-kInfinity);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) maxima = max(maxima, load(logits + i));
  float largest = max_lane(maxima);  // the order in which a maximum is taken does not change it
  for (; i < n; ++i) largest = logits[i] > largest ? logits[i] : largest;

  map_row(logits, n, logits, [shift = splat(largest)](F8 a) { return exp_lanes(sub(a, shift)); });
  F8 total = splat(0.0F);
  for_groups(n, [&](int64_t j, auto group) { total = add(total, group.get(logits + j)); });
  map_row(logits, n, logits, [divisor = splat(sum(total))](F8 e) { return div(e, divisor); });
}

// Both rotations are (a, b) -> (a cos - b sin, a sin + b cos); the product with the cosine is rounded before the sum.
void rotate_halves_row(float* x, const float* cos_sin, int half) {
  for_groups(half, [=](int64_t i, auto group) {
    const F8 a = group.get(x + i), b = group.get(x + half + i);
    const F8 cosine = group.get(cos_sin + i), sine = group.get(cos_sin + half + i);
    group.put(x + i, fnma(b, sine, mul(a, cosine)));
    group.put(x + half + i, fma(a, sine, mul(b, cosine)));
  });
}

void rotate_adjacent_row(float* x, const float* cos_sin, int half) {
  static constexpr float kSigns[kLanes] = {-1, 1, -1, 1, -1, 1, -1, 1};
  const F8 signs = load(kSigns);
  const auto rotate = [=](F8 pairs, const float* cosine, const float* sine) {
    return fma(swap_pairs(pairs), mul(signs, load_twice(sine)), mul(pairs, load_twice(cosine)));
  };
  constexpr int kPairs = kLanes / 2;
  int i = 0;
  for (; i + kPairs <= half; i += kPairs) {
    store(x + 2 * i, rotate(load(x + 2 * i), cos_sin + i, cos_sin + half + i));
  }
  if (i == half) return;
  const int count = half - i;
  float cosine[kPairs] = {}, sine[kPairs] = {};
  for (int j = 0; j < count; ++j) {
    cosine[j] = cos_sin[i + j];
    sine[j] = cos_sin[half + i + j];
  }
  store_part(x + 2 * i, rotate(load_part(x + 2 * i, 2 * count), cosine, sine), 2 * count);
}

}  // namespace
}  // namespace sluice::kernels
