// How rows of the key-value cache are rounded and read back; included after vector_canonical.h.
#pragma once

#include "kernels/vector_canonical.h"

namespace sluice::kernels {
namespace {

// Eight elements of a row of n, from i on: zeros beyond its end.
inline F8 load_bounded(const float* x, int n, int i) {
  return i + kLanes <= n ? load(x + i) : i < n ? load_part(x + i, n - i) : splat(0.0F);
}

// scale = m / 127 for the largest magnitude m of the group, code = x * (127 / m) to nearest even. A group below 2^-100
// (whose 127 / m might overflow) is zero; one with a NaN or an infinity reads back as NaN.
inline void encode_q8_group(const float* x, int n, Q8Group* group) {
  F8 magnitudes = splat(0.0F);
  F8 zeros = splat(0.0F);  // or NaN: 0 * x is NaN where x is not finite, and max would lose it
  for (int i = 0; i < kQ8Group; i += kLanes) {
    const F8 a = load_bounded(x, n, i);
    magnitudes = max(magnitudes, max(a, negate(a)));
    zeros = fma(a, splat(0.0F), zeros);
  }
  const float largest = max_lane(magnitudes) + sum(zeros);
  if (!(largest >= 0x1p-100F)) {
    const bool is_nan = largest != largest;
    __builtin_memset(group, 0, sizeof(*group));
    if (is_nan) group->scale = __builtin_nanf("");
    return;
  }
  group->scale = largest / 127.0F;
  const F8 inverse = splat(127.0F / largest);
  for (int i = 0; i < kQ8Group; i += kLanes) {
    store_i8(group->codes + i, add(mul(load_bounded(x, n, i), inverse), splat(0x1.8p23F)));
  }
}

void encode_row(DType type, const float* x, int n, std::byte* y) {
  if (type == DType::f32) {
    __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  if (type == DType::i8) {
    auto* group = reinterpret_cast<Q8Group*>(y);
    for (int i = 0; i < n; i += kQ8Group) encode_q8_group(x + i, n - i, group++);
    return;
  }
  const auto encode = [type](F8 from, uint16_t* to) {
    type == DType::f16 ? store_f16(to, from) : store_bf16(to, from);
  };
  auto* out = reinterpret_cast<uint16_t*>(y);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) encode(load(x + i), out + i);
  if (i == n) return;
  uint16_t last[kLanes];
  encode(load_part(x + i, n - i), last);
  __builtin_memcpy(out + i, last, static_cast<size_t>(n - i) * sizeof(uint16_t));
}

template <DType kType>
struct CacheType {
  constexpr DType operator()() const { return kType; }
};

// Calls use(CacheType) for a cache of floats.
template <typename Use>
inline void with_float_type(DType type, Use use) {
  switch (type) {
    case DType::f16:
      return use(CacheType<DType::f16>());
    case DType::bf16:
      return use(CacheType<DType::bf16>());
    default:
      return use(CacheType<DType::f32>());
  }
}

// Elements i..i + 7 of a row of floats.
template <DType kType>
inline F8 load_cached(const std::byte* row, int i) {
  if constexpr (kType == DType::f32) return load(reinterpret_cast<const float*>(row) + i);
  if constexpr (kType == DType::f16) return load_f16(reinterpret_cast<const uint16_t*>(row) + i);
  if constexpr (kType == DType::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(row) + i);
}

// The reverse of encode_row: n elements of `type` to f32, followed by zeros up to a multiple of eight.
void decode_row(DType type, const std::byte* x, int n, float* y) {
  if (type == DType::i8) {
    const auto* groups = reinterpret_cast<const Q8Group*>(x);
    for (int i = 0; i < n; i += kLanes) {
      const Q8Group& group = groups[i / kQ8Group];
      store(y + i, mul(load_i8(group.codes + i % kQ8Group), splat(group.scale)));
    }
    return;
  }
  with_float_type(type, [=](auto cached) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load_cached<cached()>(x, i));
    if (i == n) return;
    constexpr int kSize = cached() == DType::f32 ? sizeof(float) : sizeof(uint16_t);
    std::byte last[kLanes * kSize] = {};
    __builtin_memcpy(last, x + i * kSize, static_cast<size_t>((n - i) * kSize));
    store(y + i, load_cached<cached()>(last, 0));
  });
}

}  // namespace
}  // namespace sluice::kernels
