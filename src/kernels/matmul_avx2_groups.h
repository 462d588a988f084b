// AVX2: what surrounds the integer products of a group: activations by chunks of weights, horizontal sums, and the
// canonical step in f32. The eight rows of a block are the eight lanes of every float vector. Included by
// matmul_avx2_int16.cc, matmul_avx2_tile.h and matmul_avx512_int16.cc only.
#pragma once

#include "kernels/matmul_avx2.h"

namespace sluice::kernels {
namespace {

// --- Activations ----------------------------------------------------------------------------------------------------

/// The activations that meet one chunk of weights: kPlanes vectors, the planes lying `plane_bytes` apart; each holds
/// 32 / kPieces bytes of kPieces groups that lie `stride` bytes apart.
template <int kPieces, int kPlanes>
[[gnu::always_inline]] inline void gather_planes(const void* at, int stride, int plane_bytes, __m256i* planes) {
  const auto* bytes = static_cast<const char*>(at);
  const auto half = [&](int byte) { return reinterpret_cast<const __m128i*>(bytes + byte); };
  if constexpr (kPieces < 4) {
    for (int p = 0; p < kPlanes; ++p, bytes += plane_bytes) {
      planes[p] = kPieces == 2 ? _mm256_loadu2_m128i(half(stride), half(0))
                               : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    }
  } else {  // planes of eight bytes: two of them with one load
    for (int p = 0; p < kPlanes; p += 2, bytes += 16) {
      const __m256i even = _mm256_loadu2_m128i(half(2 * stride), half(0));
      const __m256i odd = _mm256_loadu2_m128i(half(3 * stride), half(stride));
      planes[p] = _mm256_unpacklo_epi64(even, odd);
      planes[p + 1] = _mm256_unpackhi_epi64(even, odd);
    }
  }
}

// --- Horizontal sums of eight accumulators, one per row -------------------------------------------------------------

template <int kSelect>
__m256i select(__m256i a, __m256i b) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), kSelect));
}

/// Per 128 bits: lanes 0 + 2 of a and b, then lanes 1 + 3. (phaddd costs twice as much.)
inline __m256i add_far(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
/// Per 128 bits: the sum of the two halves of a, then of b.
inline __m256i add_halves(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}
/// Per 128 bits: lanes 0 + 1 and 2 + 3 of a, then of b.
inline __m256i add_near(__m256i a, __m256i b) { return _mm256_add_epi32(select<0x88>(a, b), select<0xDD>(a, b)); }

/// Adds up the accumulators of the rows of a block, which come in pairs, each beside the products of the next: kPieces
/// vectors, one per group that an accumulator holds side by side, with the rows in the lanes.
template <int kPieces>
class RowSums {
 public:
  /// Rows 2 * kPair and 2 * kPair + 1; pairs come in order.
  template <int kPair>
  [[gnu::always_inline]] void add(__m256i even, __m256i odd) {
    const __m256i sum = kPieces == 4 ? add_near(even, odd) : add_far(even, odd);
    if constexpr (kPair % 2 == 0) {
      first_pair_ = sum;
    } else if constexpr (kPieces == 4) {
      four_[kPair / 2][0] = select<0x88>(first_pair_, sum);
      four_[kPair / 2][1] = select<0xDD>(first_pair_, sum);
    } else {
      four_[kPair / 2][0] = add_halves(first_pair_, sum);
    }
  }

  [[gnu::always_inline]] void finish(__m256i (&sums)[kPieces]) const {
    const __m256i low = _mm256_permute2x128_si256(four_[0][0], four_[1][0], 0x20);
    const __m256i high = _mm256_permute2x128_si256(four_[0][0], four_[1][0], 0x31);
    if constexpr (kPieces == 1) {
      sums[0] = _mm256_add_epi32(low, high);
    } else {
      sums[0] = low;
      sums[kPieces / 2] = high;
    }
    if constexpr (kPieces == 4) {
      sums[1] = _mm256_permute2x128_si256(four_[0][1], four_[1][1], 0x20);
      sums[3] = _mm256_permute2x128_si256(four_[0][1], four_[1][1], 0x31);
    }
  }

 private:
  __m256i first_pair_;
  __m256i four_[2][kPieces == 4 ? 2 : 1];  // of rows 0..3 and 4..7
};

template <int kPieces>
void reduce(const __m256i (&a)[kRowBlock], __m256i (&sums)[kPieces]) {
  RowSums<kPieces> rows;
  rows.template add<0>(a[0], a[1]);
  rows.template add<1>(a[2], a[3]);
  rows.template add<2>(a[4], a[5]);
  rows.template add<3>(a[6], a[7]);
  rows.finish(sums);
}

/// What weights that are kOffset too large add to the sums of up to kScaleTile groups.
template <int kOffset>
class OffsetSums {
 public:
  /// x_sums [count]: the sums of the activations of the groups.
  OffsetSums(const float* x_sums, int count) {
    for (int g = 0; g < count; ++g) sums_[g] = kOffset * static_cast<int>(x_sums[g]);
  }
  /// The canonical integer sums of a group.
  __m256i taken_from(__m256i products, int group) const {
    return _mm256_sub_epi32(products, _mm256_set1_epi32(sums_[group]));
  }

 private:
  int sums_[kScaleTile];
};
template <>
class OffsetSums<0> {
 public:
  OffsetSums(const float*, int) {}
  static __m256i taken_from(__m256i products, int) { return products; }
};

// --- One group, f32 -------------------------------------------------------------------------------------------------

/// Scales and biases of up to kScaleTile groups, per group one vector over the rows. fp4 weights are doubled
/// integers, so their scales are halved, which is exact.
struct GroupScales {
  __m256 scale[kScaleTile];
  __m256 bias[kScaleTile];

  template <bool kAffine>
  void convert(const BlockRows& rows, const Format& format, int first, int count) {
    const ScaleKind kind = scale_kind(format);
    convert_scales(rows, rows.scales, kind, first, count, kAffine ? 1.0F : 0.5F, scale);
    if constexpr (kAffine) {
      if (has_biases(format)) {
        convert_scales(rows, rows.biases, kind, first, count, 1.0F, bias);
      } else {
        for (int g = 0; g < count; ++g) bias[g] = _mm256_mul_ps(_mm256_set1_ps(kSymmetricBias), scale[g]);
      }
    }
  }

  /// The canonical step: y + d * (s * sum(q x) + b * sum(x)).
  template <bool kAffine>
  __m256 step(__m256 y, __m256i products, int group, const float* x_scale, const float* x_sum) const {
    __m256 term = _mm256_mul_ps(scale[group], _mm256_cvtepi32_ps(products));
    if constexpr (kAffine) term = _mm256_fmadd_ps(bias[group], _mm256_broadcast_ss(x_sum), term);
    return _mm256_fmadd_ps(_mm256_broadcast_ss(x_scale), term, y);
  }
};

}  // namespace
}  // namespace sluice::kernels
