// AVX2: the table of matrix kernels, and the rounding of activations to int16.
#include "kernels/matmul_avx2.h"

namespace sluice::kernels {
namespace {

template <int kPlanes, typename T>
void interleave(const T* natural, int group, T* codes) {
  for (int p = 0; p < kPlanes; ++p) {
    for (int j = 0; j < group / kPlanes; ++j) codes[p * (group / kPlanes) + j] = natural[j * kPlanes + p];
  }
}

template <typename T>
void lay_out(const T* natural, int group, int planes, T* codes) {
  switch (planes) {
    case 2:
      return interleave<2>(natural, group, codes);
    case 4:
      return interleave<4>(natural, group, codes);
    default:
      memcpy(codes, natural, static_cast<size_t>(group) * sizeof(T));
  }
}

/// The two bytes of every number, upper ones and lower ones apart.
void split(const int16_t* natural, int group, int8_t* upper, int8_t* lower) {
  for (int i = 0; i < group; i += 16) {
    const __m256i sixteen = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(natural + i));
    // The lower byte is signed: from 128 on it carries into the upper one.
    const __m256i uppers = _mm256_srai_epi16(_mm256_add_epi16(sixteen, _mm256_set1_epi16(128)), 8);
    const __m256i lowers = _mm256_srai_epi16(_mm256_slli_epi16(sixteen, 8), 8);
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(uppers, lowers), 0xD8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(upper + i), _mm256_castsi256_si128(both));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lower + i), _mm256_extracti128_si256(both, 1));
  }
}

}  // namespace

void quantize_avx2(const float* x, int cols, ActivationLayout layout, int16_t* codes, float* scales, float* sums) {
  const int group = layout.group;
  for (int g = 0; g < cols / group; ++g, x += group, codes += group) {
    // As integers, the magnitudes of floats are in order, with infinity and NaN above all numbers.
    __m256i largest8 = _mm256_setzero_si256();
    for (int i = 0; i < group; i += 8) {
      const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
      largest8 = _mm256_max_epi32(largest8, _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF)));
    }
    __m128i largest4 = _mm_max_epi32(_mm256_castsi256_si128(largest8), _mm256_extracti128_si256(largest8, 1));
    largest4 = _mm_max_epi32(largest4, _mm_shuffle_epi32(largest4, 0x4E));
    largest4 = _mm_max_epi32(largest4, _mm_shuffle_epi32(largest4, 0xB1));
    const int largest_bits = _mm_cvtsi128_si32(largest4);
    if (largest_bits == 0 || largest_bits >= 0x7F800000) {
      memset(codes, 0, static_cast<size_t>(group) * sizeof(int16_t));
      scales[g] = largest_bits == 0 ? 0.0F : __builtin_nanf("");
      sums[g] = 0.0F;
      continue;
    }
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(largest4));
    const float up = largest < 0x1p-96F ? 0x1p96F : 1.0F;
    const __m256 ups = _mm256_set1_ps(up);
    const __m256 inverse = _mm256_set1_ps(kActivationMax / (largest * up));
    int16_t natural[128];
    __m256i sum8 = _mm256_setzero_si256();
    for (int i = 0; i < group; i += 16) {
      __m256i half[2];
      for (int h = 0; h < 2; ++h) {
        const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * h), ups), inverse);
        half[h] = _mm256_cvtps_epi32(scaled);
      }
      sum8 = _mm256_add_epi32(sum8, _mm256_add_epi32(half[0], half[1]));
      const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(half[0], half[1]), 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(natural + i), packed);
    }
    const __m128i sum4 = _mm_add_epi32(_mm256_castsi256_si128(sum8), _mm256_extracti128_si256(sum8, 1));
    const __m128i sum2 = _mm_add_epi32(sum4, _mm_shuffle_epi32(sum4, 0x4E));
    sums[g] = static_cast<float>(_mm_cvtsi128_si32(_mm_add_epi32(sum2, _mm_shuffle_epi32(sum2, 0xB1))));
    scales[g] = largest / kActivationMax;
    if (layout.split) {
      int8_t upper[128];
      int8_t lower[128];
      split(natural, group, upper, lower);
      auto* bytes = reinterpret_cast<int8_t*>(codes);
      lay_out(upper, group, layout.planes, bytes);
      lay_out(lower, group, layout.planes, bytes + group);
    } else {
      lay_out(natural, group, layout.planes, codes);
    }
  }
}

void weighted_add_avx2(float weight, const float* x, int64_t n, float* y) {
  const __m256 weights = _mm256_set1_ps(weight);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_fmadd_ps(weights, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  }
  const __m256i rest = lane_mask(static_cast<int>(n - i));
  const __m256 sum = _mm256_fmadd_ps(weights, _mm256_maskload_ps(x + i, rest), _mm256_maskload_ps(y + i, rest));
  _mm256_maskstore_ps(y + i, rest, sum);
}

const MatmulKernels kMatmulAvx2 = {int16_layout_avx2, quantize_avx2, int16_block_avx2,
                                   f32_block_avx2,    decode_avx2,   weighted_add_avx2};

}  // namespace sluice::kernels
