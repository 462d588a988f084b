// AVX2: weights from E4M3 codes. A decoder turns the codes of row r of a block, kVectors * 8 of them, into f32.
// Included by matmul_avx2_f32.cc only.
#pragma once

#include "kernels/matmul_avx2.h"
#include "kernels/vector_lanes_avx2.h"

namespace sluice::kernels {
namespace {

/// E4M3(code) * scale. As f16 numbers, codes are too small by 2^8, which the scale makes good if it is folded, that is,
/// multiplied by kE4m3InF16 beforehand; scales near the end of the range of f32 would become infinite by it.
template <bool kFolded>
struct ScaledE4m3 {
  static constexpr int kVectors = 2;

  const float (&scales)[kRowBlock];

  void decode(const std::byte* codes, int r, __m256 (&w)[kVectors]) const { scale(widen(codes), r, w); }

  /// The two halves of decode().
  static __m256i widen(const std::byte* codes) {
    return e4m3_to_f16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  }
  void scale(const __m256i& half_floats, int r, __m256 (&w)[kVectors]) const {
    const auto* halves = reinterpret_cast<const __m128i*>(&half_floats);
    for (int v = 0; v < kVectors; ++v) {
      const __m256 eight = _mm256_cvtph_ps(_mm_load_si128(halves + v));
      w[v] = mul(kFolded ? eight : mul(eight, splat(kE4m3InF16)), splat(scales[r]));
    }
  }
};

/// To bf16, nearest, ties to even. A NaN needs a payload that survives it.
inline __m256 round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
  return _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xFFFF0000U))));
}

/// bf16(E4M3(code) * scale), for any scales; NaN with a plain payload.
struct RoundedE4m3 {
  static constexpr int kVectors = ScaledE4m3<false>::kVectors;

  const float (&scales)[kRowBlock];

  void decode(const std::byte* codes, int r, __m256 (&w)[kVectors]) const {
    ScaledE4m3<false>{scales}.decode(codes, r, w);
    for (__m256& eight : w) eight = round_to_bf16(eight);
  }
};

/// bf16(E4M3(code) * scale) for one scale that all rows share: rounding does not look at exponents, so a code of
/// exponent e > 0 and mantissa m is the bf16 for exponent 0 and m, whose bytes are looked up, with e added to its
/// exponent; codes of exponent 0 have a table of their own. For scales in [kLowest, kHighest), for which no product is
/// beyond the normal numbers of f32.
struct TabledE4m3 {
  static constexpr int kVectors = 4;
  static constexpr float kLowest = 0x1p-100F;
  static constexpr float kHighest = 0x1p100F;

  __m256i low, high;  // bytes of bf16 by: m for codes of exponent 0, 8 + m for the others

  explicit TabledE4m3(float scale) {
    const __m256 mantissa = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 subnormal = mul(mantissa, splat(0x1p-9F));
    const __m256 normal = mul(add(mantissa, splat(8)), splat(0x1p-10F));
    const __m256i even = _mm256_srli_epi32(_mm256_castps_si256(round_to_bf16(mul(subnormal, splat(scale)))), 16);
    const __m256i odd = _mm256_srli_epi32(_mm256_castps_si256(round_to_bf16(mul(normal, splat(scale)))), 16);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(even, odd), 0xD8);
    low = bytes(_mm256_and_si256(words, _mm256_set1_epi16(0xFF)));
    high = bytes(_mm256_srli_epi16(words, 8));
  }

  void decode(const std::byte* codes, int, __m256 (&w)[kVectors]) const {
    // Codes i and 8 + i become neighbours: then the two halves of 32-bit lanes are vectors of weights in order.
    const __m256i spread = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)),
                                                       _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    const __m256i paired = _mm256_shuffle_epi8(
        spread, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)));
    const __m256i with_exponent = _mm256_and_si256(_mm256_or_si256(paired, _mm256_set1_epi8(8)), _mm256_set1_epi8(15));
    const __m256i index = _mm256_min_epu8(_mm256_and_si256(paired, _mm256_set1_epi8(0x7F)), with_exponent);
    const __m256i low_bytes = _mm256_shuffle_epi8(low, index);
    const __m256i high_bytes = _mm256_shuffle_epi8(high, index);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i words[2] = {
        scale_by_exponent(_mm256_unpacklo_epi8(low_bytes, high_bytes), _mm256_unpacklo_epi8(zero, paired)),
        scale_by_exponent(_mm256_unpackhi_epi8(low_bytes, high_bytes), _mm256_unpackhi_epi8(zero, paired))};
    for (int i = 0; i < 2; ++i) {
      w[2 * i] = _mm256_castsi256_ps(_mm256_slli_epi32(words[i], 16));
      w[2 * i + 1] = _mm256_castsi256_ps(_mm256_and_si256(words[i], _mm256_set1_epi32(static_cast<int>(0xFFFF0000U))));
    }
  }

 private:
  /// Sixteen words below 256 as bytes, twice.
  static __m256i bytes(__m256i words) {
    const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    return _mm256_broadcastsi128_si256(packed);
  }

  /// Adds exponent and sign of a code, which is the upper byte of its word, to a bf16.
  static __m256i scale_by_exponent(__m256i bf16, __m256i code) {
    const __m256i sign_and_exponent =
        _mm256_and_si256(_mm256_srai_epi16(code, 4), _mm256_set1_epi16(static_cast<int16_t>(0x8780)));
    return _mm256_add_epi16(bf16, sign_and_exponent);
  }
};

}  // namespace
}  // namespace sluice::kernels
