// Eight float lanes in one AVX2 register. The meaning of each function is stated in vector_lanes_scalar.h.
//
// Included by vector_avx2.cc only. Intrinsics and C headers alone: an inline function of the standard library that
// is instantiated here would be AVX2 code under a name that the whole program shares.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace sluice::kernels {
namespace {

constexpr int kLanes = 8;

using F8 = __m256;

inline F8 splat(float x) { return _mm256_set1_ps(x); }
inline F8 load(const float* x) { return _mm256_loadu_ps(x); }
inline void keep(F8& a) { asm("" : "+x"(a)); }

// All ones in the first n lanes.
inline __m256i first_lanes(int n) {
  static constexpr int32_t kOnesThenZeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOnesThenZeros + kLanes - n));
}
inline F8 load_part(const float* x, int n) { return _mm256_maskload_ps(x, first_lanes(n)); }
inline void store(float* y, F8 a) { _mm256_storeu_ps(y, a); }
inline void store_part(float* y, F8 a, int n) { _mm256_maskstore_ps(y, first_lanes(n), a); }

inline F8 add(F8 a, F8 b) { return _mm256_add_ps(a, b); }
inline F8 sub(F8 a, F8 b) { return _mm256_sub_ps(a, b); }
inline F8 mul(F8 a, F8 b) { return _mm256_mul_ps(a, b); }
inline F8 div(F8 a, F8 b) { return _mm256_div_ps(a, b); }
inline F8 sqrt(F8 a) { return _mm256_sqrt_ps(a); }
inline F8 fma(F8 a, F8 b, F8 c) { return _mm256_fmadd_ps(a, b, c); }
inline F8 fnma(F8 a, F8 b, F8 c) { return _mm256_fnmadd_ps(a, b, c); }
inline F8 min(F8 a, F8 b) { return _mm256_min_ps(a, b); }
inline F8 max(F8 a, F8 b) { return _mm256_max_ps(a, b); }

inline F8 swap_pairs(F8 a) { return _mm256_permute_ps(a, _MM_SHUFFLE(2, 3, 0, 1)); }
inline F8 load_twice(const float* x) {
  const __m256i each_twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)), each_twice);
}

inline float sum(F8 a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float max_lane(F8 a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// The tree of sum() on eight registers at once; each step halves their number. The low 128 bits of a register hold
// partial sums of its first operand, the high ones of its second.
inline F8 sum_each(const F8 (&a)[kLanes]) {
  const auto halves = [](F8 x, F8 y) {  // lanes j + (j + 4) of x, then of y
    return _mm256_add_ps(_mm256_blend_ps(x, y, 0xF0), _mm256_permute2f128_ps(x, y, 0x21));
  };
  const auto quarters = [](F8 x, F8 y) {  // per 128 bits: lanes j + (j + 2) of x, then of y
    const __m256d crossed = _mm256_shuffle_pd(_mm256_castps_pd(x), _mm256_castps_pd(y), 0x5);
    return _mm256_add_ps(_mm256_blend_ps(x, y, 0xCC), _mm256_castpd_ps(crossed));
  };
  const F8 left = quarters(halves(a[0], a[4]), halves(a[1], a[5]));   // 0 0 1 1 | 4 4 5 5
  const F8 right = quarters(halves(a[2], a[6]), halves(a[3], a[7]));  // 2 2 3 3 | 6 6 7 7
  return _mm256_add_ps(_mm256_shuffle_ps(left, right, _MM_SHUFFLE(2, 0, 2, 0)),
                       _mm256_shuffle_ps(left, right, _MM_SHUFFLE(3, 1, 3, 1)));
}

inline F8 scale_by_power(F8 x, F8 shifted) {
  const __m256i k = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(splat(0x1.8p23F)));
  const __m256i half = _mm256_srai_epi32(k, 1);
  const auto power = [](__m256i exponent) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(k, half)));
}

inline F8 load_f16(const uint16_t* x) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))); }
inline F8 load_bf16(const uint16_t* x) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline void store_f16(uint16_t* y, F8 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_bf16(uint16_t* y, F8 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(y), packed);
}

inline F8 load_i8(const int8_t* x) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
}
inline void store_i8(int8_t* y, F8 shifted) {
  // The low byte of every lane; within each 128 bits they gather in the first four.
  const __m256i low_bytes = _mm256_shuffle_epi8(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x0C080400));
  const __m128i packed = _mm_unpacklo_epi32(_mm256_castsi256_si128(low_bytes), _mm256_extracti128_si256(low_bytes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(y), packed);
}

}  // namespace
}  // namespace sluice::kernels
