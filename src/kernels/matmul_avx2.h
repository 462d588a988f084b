// What the AVX2 files of the matrix products share. Included by them only: internal linkage throughout, intrinsics
// and plain structs only (see vector_lanes_avx2.h for the reason).
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/matmul_kernels.h"

namespace sluice::kernels {

ActivationLayout int16_layout_avx2(const Format& format, int inputs);
void int16_block_avx2(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);
/// For kTileInputs inputs and more, in the layout of AVX2.
void int16_tile_avx512(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);
void f32_block_avx2(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);
void quantize_avx2(const float* x, int cols, ActivationLayout layout, int16_t* codes, float* scales, float* sums);
void weighted_add_avx2(float weight, const float* x, int64_t n, float* y);
void decode_avx2(const MatrixView& weights, int row, int first, int count, float* w);

namespace {

/// Bytes that a row is prefetched into L1 before they are read: a few groups, so that the L2 cache has time to answer.
constexpr int kAheadInRow = 256;

/// Groups whose scales are converted at once.
constexpr int kScaleTile = 64;

/// The rows of one block. A block at the end of the matrix repeats its last row, so that loops always run over
/// kRowBlock rows; what the repetitions compute is not stored.
///
/// Prefetches follow the memory line by line, although the rows of a block are read side by side, and go to L2: so
/// the hardware prefetchers recognise a stream, and L1 has too few miss buffers to hide the latency of memory. From
/// there, where eight rows are too many streams for the hardware, a row's own prefetches bring its lines to L1. Beyond
/// the matrix all of them do no harm. They are forced inline because gcc drops calls of functions that only prefetch.
struct BlockRows {
  const std::byte* codes[kRowBlock];
  const std::byte* scales[kRowBlock];
  const std::byte* biases[kRowBlock];
  const std::byte* codes_ahead;  // where the prefetches of this block begin
  int64_t row_bytes;             // of codes
  int64_t to_next_block;         // bytes from the end of a row to the same row of the next block
  int64_t scales_ahead;          // bytes from the scales of this block to those to prefetch

  BlockRows(const MatrixView& weights, int row, int rows) {
    for (int r = 0; r < kRowBlock; ++r) {
      const int64_t source = row + (r < rows ? r : rows - 1);
      codes[r] = weights.codes + source * weights.row_stride;
      const int64_t scale = scale_row(weights, source) * weights.scale_stride;
      scales[r] = weights.scales + scale;
      biases[r] = weights.biases + scale;
    }
    // A block and a page ahead: the first lines of the last rows are needed soon after the last lines of the block
    // before. Scales are few, and all of them are needed at once: two blocks ahead.
    codes_ahead = codes[0] + kRowBlock * weights.row_stride + 4096;
    row_bytes = code_row_bytes(weights.format, weights.cols);
    to_next_block = kRowBlock * weights.row_stride - row_bytes;
    scales_ahead = scale_row(weights, 2 * kRowBlock) * weights.scale_stride;
  }

  /// For the time that bytes [begin, begin + count) of every row take.
  [[gnu::always_inline]] void prefetch_codes(int64_t begin, int count) const {
    const auto* ahead = reinterpret_cast<const char*>(codes_ahead + kRowBlock * begin);
    for (int line = 0; line < kRowBlock * count; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T1);
  }
  /// The byte of the rows that prefetch_row() wants when byte `offset` is read: behind their end, in the next block.
  [[gnu::always_inline]] int64_t ahead_in_rows(int64_t offset) const {
    const int64_t ahead = offset + kAheadInRow;
    return ahead < row_bytes ? ahead : ahead + to_next_block;
  }
  [[gnu::always_inline]] void prefetch_row(int r, int64_t ahead) const {
    _mm_prefetch(reinterpret_cast<const char*>(codes[r] + ahead), _MM_HINT_T0);
  }
  /// Scales or biases, which begin at `first_row`, for when bytes [begin, end) of every row of them are read.
  [[gnu::always_inline]] void prefetch_scales(const std::byte* first_row, int64_t begin, int64_t end) const {
    const auto* ahead = reinterpret_cast<const char*>(first_row + scales_ahead);
    for (int64_t line = kRowBlock * begin; line < kRowBlock * end; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T1);
  }
};

/// How the scales of a group are stored.
enum class ScaleKind : uint8_t { f32, f16, bf16, e8m0, e4m3 };

inline ScaleKind scale_kind(const Format& format) {
  if (format.mode == Mode::nvfp4) return ScaleKind::e4m3;
  if (format.mode == Mode::mxfp4 || format.mode == Mode::mxfp8) return ScaleKind::e8m0;
  return format.scale_type == DType::f32 ? ScaleKind::f32
                                         : (format.scale_type == DType::f16 ? ScaleKind::f16 : ScaleKind::bf16);
}

/// E4M3 codes, sign-extended to words and shifted into place, are f16 numbers too small by 2^8.
constexpr float kE4m3InF16 = 256.0F;
inline __m256i e4m3_to_f16(__m128i codes) {
  const __m256i shifted = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7);
  return _mm256_and_si256(shifted, _mm256_set1_epi16(static_cast<int16_t>(0xBFFF)));
}

/// Eight E8M0 codes, the lower half of `codes`: the code is the exponent field, but for code 0, the denormal 2^-127.
inline __m256 e8m0_to_f32(__m128i codes) {
  const __m256i exponents = _mm256_slli_epi32(_mm256_cvtepu8_epi32(codes), 23);
  return _mm256_castsi256_ps(_mm256_max_epi32(exponents, _mm256_set1_epi32(0x00400000)));
}

/// 8 rows of 8 scales of one byte, E8M0 or E4M3 up to the factor kE4m3InF16, from byte `at` of each row on, times
/// `factor`, to groups [8] of 8 rows.
inline void transpose_byte_scales(const std::byte* const* rows, int64_t at, bool e4m3, float factor, __m256* groups) {
  __m128i pairs[4];
  for (int i = 0; i < 4; ++i) {
    const __m128i even = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[2 * i] + at));
    pairs[i] = _mm_unpacklo_epi8(even, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[2 * i + 1] + at)));
  }
  const __m128i low[2] = {_mm_unpacklo_epi16(pairs[0], pairs[1]), _mm_unpacklo_epi16(pairs[2], pairs[3])};
  const __m128i high[2] = {_mm_unpackhi_epi16(pairs[0], pairs[1]), _mm_unpackhi_epi16(pairs[2], pairs[3])};
  const __m128i two_groups[4] = {_mm_unpacklo_epi32(low[0], low[1]), _mm_unpackhi_epi32(low[0], low[1]),
                                 _mm_unpacklo_epi32(high[0], high[1]), _mm_unpackhi_epi32(high[0], high[1])};
  const __m256 factors = _mm256_set1_ps(factor);
  for (int i = 0; i < 4; ++i) {
    if (e4m3) {
      const __m256i half = e4m3_to_f16(two_groups[i]);
      groups[2 * i] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), factors);
      groups[2 * i + 1] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), factors);
    } else {
      groups[2 * i] = _mm256_mul_ps(e8m0_to_f32(two_groups[i]), factors);
      groups[2 * i + 1] = _mm256_mul_ps(e8m0_to_f32(_mm_unpackhi_epi64(two_groups[i], two_groups[i])), factors);
    }
  }
}

/// The same for f16 and bf16, without a factor.
inline void transpose_half_scales(const std::byte* const* rows, int64_t at, bool f16, __m256* groups) {
  __m256i pairs[4];  // rows r and r + 4
  for (int r = 0; r < 4; ++r) {
    pairs[r] = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(rows[r + 4] + at),
                                   reinterpret_cast<const __m128i*>(rows[r] + at));
  }
  const __m256i low01 = _mm256_unpacklo_epi16(pairs[0], pairs[1]);
  const __m256i high01 = _mm256_unpackhi_epi16(pairs[0], pairs[1]);
  const __m256i low23 = _mm256_unpacklo_epi16(pairs[2], pairs[3]);
  const __m256i high23 = _mm256_unpackhi_epi16(pairs[2], pairs[3]);
  const __m256i two_groups[4] = {// per 128 bits: four rows of group 2i, then of group 2i + 1
                                 _mm256_unpacklo_epi32(low01, low23), _mm256_unpackhi_epi32(low01, low23),
                                 _mm256_unpacklo_epi32(high01, high23), _mm256_unpackhi_epi32(high01, high23)};
  for (int i = 0; i < 4; ++i) {
    if (f16) {
      const __m256i in_order = _mm256_permute4x64_epi64(two_groups[i], 0xD8);
      groups[2 * i] = _mm256_cvtph_ps(_mm256_castsi256_si128(in_order));
      groups[2 * i + 1] = _mm256_cvtph_ps(_mm256_extracti128_si256(in_order, 1));
    } else {  // bf16 is the upper half of f32
      const __m256i zero = _mm256_setzero_si256();
      groups[2 * i] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, two_groups[i]));
      groups[2 * i + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, two_groups[i]));
    }
  }
}

/// The same for f32.
inline void transpose_float_scales(const std::byte* const* rows, int64_t at, __m256* groups) {
  __m256 v[8];
  __m256 t[8];
  for (int r = 0; r < kRowBlock; ++r) v[r] = _mm256_loadu_ps(reinterpret_cast<const float*>(rows[r] + at));
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) groups[i] = t[i];
}

/// Groups [first, first + count), count <= kScaleTile, of `scales`, which are the scales or the biases of `rows`, to
/// one vector per group with the eight rows in its lanes; scales of one byte times `factor`.
inline void convert_scales(const BlockRows& rows, const std::byte* const (&scales)[kRowBlock], ScaleKind kind,
                           int first, int count, float factor, __m256* out) {
  const int size = kind == ScaleKind::f32 ? 4 : (kind == ScaleKind::f16 || kind == ScaleKind::bf16 ? 2 : 1);
  rows.prefetch_scales(scales[0], int64_t{first} * size, int64_t{first + count} * size);
  // What lies behind the last scale is not ours to read: the last eight groups overlap those before.
  const int last = count < 8 ? 0 : count - 8;
  const std::byte* const* from = scales;
  int64_t begin = int64_t{first} * size;  // of each row of `from`
  std::byte few[kRowBlock][32];
  const std::byte* copies[kRowBlock];
  if (count < 8) {
    memset(few, 0, sizeof few);
    for (int r = 0; r < kRowBlock; ++r) {
      memcpy(few[r], scales[r] + begin, static_cast<size_t>(count * size));
      copies[r] = few[r];
    }
    from = copies;
    begin = 0;
  }
  for (int next = 0; next < count; next += 8) {
    const int group = next < last ? next : last;
    const int64_t at = begin + int64_t{group} * size;
    if (kind == ScaleKind::f32) {
      transpose_float_scales(from, at, out + group);
    } else if (size == 2) {
      transpose_half_scales(from, at, kind == ScaleKind::f16, out + group);
    } else {
      transpose_byte_scales(from, at, kind == ScaleKind::e4m3, kind == ScaleKind::e4m3 ? factor * kE4m3InF16 : factor,
                            out + group);
    }
  }
}

/// Lanes [0, count) all ones, count <= 8.
inline __m256i lane_mask(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline void store_rows(float* y, int rows, __m256 values) { _mm256_maskstore_ps(y, lane_mask(rows), values); }

}  // namespace
}  // namespace sluice::kernels
