// AVX2: codes that do not straddle bytes, unpacked to unsigned bytes. Included by matmul_avx2_codes.h and
// matmul_avx512_codes.h only.
#pragma once

#include "kernels/matmul_avx2.h"

namespace sluice::kernels {
namespace {

/// The codes of a vector, of which every byte holds 8 / kBits consecutive ones: planes[p] has number p of each byte.
template <int kBits>
[[gnu::always_inline]] inline void byte_planes(__m256i packed, __m256i (&planes)[8 / kBits]) {
  if constexpr (kBits == 8) {
    planes[0] = packed;
  } else {
    const __m256i mask = _mm256_set1_epi8((1 << kBits) - 1);
    planes[0] = _mm256_and_si256(packed, mask);
    for (int p = 1; p < 8 / kBits; ++p) planes[p] = _mm256_and_si256(_mm256_srli_epi16(packed, p * kBits), mask);
  }
}

/// What fp4_planes() adds, so that no value is negative.
constexpr int kFp4Offset = 12;

/// The same for E2M1 codes, which become twice their value plus kFp4Offset.
[[gnu::always_inline]] inline void fp4_planes(__m256i packed, __m256i (&planes)[2]) {
  const __m256i values =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  byte_planes<4>(packed, planes);
  for (__m256i& plane : planes) plane = _mm256_shuffle_epi8(values, plane);
}

}  // namespace
}  // namespace sluice::kernels
