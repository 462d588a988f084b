// AVX-512: products of integer weights and many inputs, by vpdpwssd, which adds up what it multiplies. A vector holds
// sixteen columns of two rows, so that products and horizontal sums take half the instructions that one row would.
#include "kernels/matmul_avx2_tile.h"

namespace sluice::kernels {
namespace {

/// Inputs that share a load of weights. (Measured, Zen 4: 16 % faster than one; three are as fast and four slower.)
constexpr int kSharing = 2;

/// Sixteen activations, for each half of a vector of weights.
__m512i load_twice(const int16_t* at) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}

/// Adds up the accumulators a[r] of row r (its lower half) and row r + 4: one sum per row, in their order.
__m256i reduce_pairs(const __m512i (&a)[4]) {
  const auto add_far = [](__m512i x, __m512i y) {  // per 128 bits: lanes 0 + 2 of x and y, then lanes 1 + 3
    return _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
  };
  const __m512i left = add_far(a[0], a[1]);
  const __m512i right = add_far(a[2], a[3]);
  const __m512i four = _mm512_add_epi32(_mm512_unpacklo_epi64(left, right), _mm512_unpackhi_epi64(left, right));
  const __m256i low = _mm512_castsi512_si256(four);
  const __m256i high = _mm512_extracti64x4_epi64(four, 1);
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

struct PairTile {
  /// Sixteen lanes of row r < 4, the same of row r + 4, the next sixteen of row r, ...
  template <int kGroup>
  static constexpr int place(int row, int lane) {
    return row % 4 * 2 * kGroup + lane / 16 * 32 + row / 4 * 16 + lane % 16;
  }

  template <int kGroup, bool kAffine>
  static void multiply(const Tile& tile, const GroupScales& scales, int first, int count, const InputRow* x, int inputs,
                       __m256* sums) {
    int i = 0;
    for (; i + kSharing <= inputs; i += kSharing) {
      multiply_inputs<kSharing, kGroup, kAffine>(tile, scales, first, count, x + i, sums + i);
    }
    for (; i < inputs; ++i) multiply_inputs<1, kGroup, kAffine>(tile, scales, first, count, x + i, sums + i);
  }

 private:
  /// The same for kInputs inputs.
  template <int kInputs, int kGroup, bool kAffine>
  static void multiply_inputs(const Tile& tile, const GroupScales& scales, int first, int count, const InputRow* x,
                              __m256* sums) {
    constexpr int kVectors = kGroup / 16;
    const int16_t* weights = tile.codes;
    for (int g = 0; g < count; ++g, weights += kRowBlock * kGroup) {
      __m512i acc[kInputs][4];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        __m512i xs[kInputs];
        for (int i = 0; i < kInputs; ++i) xs[i] = load_twice(x[i].codes + int64_t{first + g} * kGroup + v * 16);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          const __m512i rows = _mm512_load_si512(weights + (r * kVectors + v) * 32);
          for (int i = 0; i < kInputs; ++i) {
            acc[i][r] = v == 0 ? _mm512_madd_epi16(rows, xs[i]) : _mm512_dpwssd_epi32(acc[i][r], rows, xs[i]);
          }
        }
      }
      for (int i = 0; i < kInputs; ++i) {
        sums[i] =
            scales.step<kAffine>(sums[i], reduce_pairs(acc[i]), g, x[i].scales + first + g, x[i].sums + first + g);
      }
    }
  }
};

}  // namespace

void int16_tile_avx512(const MatrixView& weights, int row, int row_count, const InputRow* x, float* const* y,
                       int inputs) {
  const BlockRows rows(weights, row, row_count);
  for_packing(weights.format, [&]<typename Codes, int kGroup>(Packing<Codes, kGroup>) {
    multiply_many<Codes, kGroup, PairTile>(weights, rows, x, y, row_count, inputs);
  });
}

}  // namespace sluice::kernels
