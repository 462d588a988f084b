// AVX2: products in f32, for plain weights, mxfp8 and the exact path of every format.
//
// The canonical pattern: lane j of an accumulator adds elements j, j + 8, ... of a row by fused multiply-add, and
// one fixed tree adds the lanes at the end.
#include <type_traits>

#include "kernels/matmul_avx2.h"
#include "kernels/matmul_avx2_fp8.h"
#include "kernels/matmul_dequantize.h"
#include "kernels/vector_lanes_avx2.h"

namespace sluice::kernels {
namespace {

/// Columns of the decoded tile: with 8 rows of f32 16 KiB, half of the L1 cache.
constexpr int kTileColumns = 512;

// --- Eight weights from their codes ---------------------------------------------------------------------------------

/// Plain weights have no groups and any number of columns.
template <DType kType>
struct Plain {
  static constexpr bool kGrouped = false;
  static constexpr int kElement = kType == DType::f32 ? 4 : 2;

  static __m256 decode(const std::byte* codes, int64_t column) {
    const std::byte* at = codes + column * kElement;
    if constexpr (kType == DType::f32) return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
    if constexpr (kType == DType::f16) return load_f16(reinterpret_cast<const uint16_t*>(at));
    return load_bf16(reinterpret_cast<const uint16_t*>(at));
  }
};

/// Eight codes are kBits bytes. A byte shuffle brings the two bytes of a code into its 32-bit lane.
template <int kBits>
struct Affine {
  static constexpr bool kGrouped = true;
  static constexpr bool kAffine = true;

  static __m256 decode(const std::byte* codes, int64_t column, __m256 scale, __m256 bias) {
    uint64_t eight = 0;
    memcpy(&eight, codes + column * kBits / 8, kBits);
    const __m256i stream = _mm256_broadcastq_epi64(_mm_cvtsi64_si128(static_cast<long long>(eight)));
    const __m256i words = _mm256_shuffle_epi8(stream, bytes());
    const __m256i code = _mm256_and_si256(_mm256_srlv_epi32(words, shifts()), _mm256_set1_epi32((1 << kBits) - 1));
    return _mm256_add_ps(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(code)), bias);
  }

 private:
  // The byte that code i begins in, and the next one unless that is beyond the eight codes.
  static constexpr int pair(int i) {
    const int first = i * kBits / 8;
    return first | (first + 1 < kBits ? first + 1 : 0x80) << 8 | static_cast<int>(0x80800000U);
  }
  static __m256i bytes() {
    return _mm256_setr_epi32(pair(0), pair(1), pair(2), pair(3), pair(4), pair(5), pair(6), pair(7));
  }
  static constexpr int shift(int i) { return i * kBits % 8; }
  static __m256i shifts() {
    return _mm256_setr_epi32(shift(0), shift(1), shift(2), shift(3), shift(4), shift(5), shift(6), shift(7));
  }
};

struct E2m1 {
  static constexpr bool kGrouped = true;
  static constexpr bool kAffine = false;

  static __m256 decode(const std::byte* codes, int64_t column, __m256 scale, __m256) {
    int eight = 0;
    memcpy(&eight, codes + column / 2, sizeof eight);
    const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(eight), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const __m256 magnitudes = _mm256_setr_ps(0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F);
    const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(code, 3), 31);
    const __m256 magnitude = _mm256_permutevar8x32_ps(magnitudes, code);  // looks at the low three bits only
    return _mm256_mul_ps(_mm256_or_ps(magnitude, _mm256_castsi256_ps(sign)), scale);
  }
};

/// E4M3 codes; see matmul_avx2_fp8.h for how they are decoded.
struct E4m3 {
  static constexpr bool kGrouped = true;
};

/// E4M3 with scales of blocks. The last group of a row may be any number of columns.
struct Fp8Block {
  static constexpr bool kGrouped = true;
};

template <typename Weights>
constexpr bool kIsFp8 = std::is_same_v<Weights, E4m3> || std::is_same_v<Weights, Fp8Block>;

/// Gives the NaN among eight scales a payload that survives the rounding to bf16.
void with_plain_nans(float (&scales)[kRowBlock]) {
  for (float& scale : scales) scale = scale != scale ? __builtin_nanf("") : scale;
}

// --- Products -------------------------------------------------------------------------------------------------------

/// The groups of a tile: their scales, and biases if there are any, with the rows of the block in the lanes.
struct TileScales {
  alignas(32) float scale[kTileColumns / 16][kRowBlock];
  alignas(32) float bias[kTileColumns / 16][kRowBlock];

  /// Groups [first, first + count).
  void convert(const MatrixView& weights, const BlockRows& rows, int first, int count) {
    const ScaleKind kind = scale_kind(weights.format);
    auto* scales = reinterpret_cast<__m256*>(scale);
    auto* biases = reinterpret_cast<__m256*>(bias);
    convert_scales(rows, rows.scales, kind, first, count, 1.0F, scales);
    if (has_biases(weights.format)) convert_scales(rows, rows.biases, kind, first, count, 1.0F, biases);
    if (weights.format.mode == Mode::symmetric) {
      for (int g = 0; g < count; ++g) biases[g] = mul(splat(kSymmetricBias), scales[g]);
    }
  }

  /// Whether the magnitudes of the scales of `count` groups are in [low, high).
  bool within(int count, float low, float high) const {
    const auto* scales = reinterpret_cast<const __m256*>(scale);
    const __m256 bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    for (int g = 0; g < count; ++g) {
      const __m256 magnitude = _mm256_and_ps(scales[g], bits);
      const __m256 above = _mm256_cmp_ps(magnitude, splat(low), _CMP_GE_OQ);
      const __m256 below = _mm256_cmp_ps(magnitude, splat(high), _CMP_LT_OQ);
      if (_mm256_movemask_ps(_mm256_and_ps(above, below)) != 0xFF) return false;
    }
    return true;
  }

  /// Multiplies the scales of `count` groups by kE4m3InF16, unless one of them is too large for it or NaN.
  bool fold(int count) {
    if (!within(count, 0.0F, 0x1p119F)) return false;
    auto* scales = reinterpret_cast<__m256*>(scale);
    for (int g = 0; g < count; ++g) scales[g] = mul(scales[g], splat(kE4m3InF16));
    return true;
  }
};

// Decoded weights are visited column by column: visit.columns(column, count) announces the next columns of all rows, at
// most 32, then visit(r, v, w) brings the v-th eight of them of row r.

/// sums[r] += weights times x.
struct AddProducts {
  __m256 (&sums)[kRowBlock];
  const float* x;
  __m256 columns_of_x[4];

  [[gnu::always_inline]] void columns(int column, int count) {
    for (int v = 0; v * kLanes < count; ++v) {
      const float* at = x + column + v * kLanes;
      columns_of_x[v] = count - v * kLanes < kLanes ? load_part(at, count - v * kLanes) : load(at);
    }
  }
  [[gnu::always_inline]] void operator()(int r, int v, __m256 w) {
    sums[r] = fma(w, columns_of_x[v], sums[r]);
    asm("" : "+x"(sums[r]));  // one row after the other: decoded all at once, they take more registers than there are
  }
};

/// Keeps the weights of columns from `begin` on.
struct KeepTile {
  __m256 (&tile)[kTileColumns / kLanes][kRowBlock];
  int begin;
  int vector;

  void columns(int column, int) { vector = (column - begin) / kLanes; }
  void operator()(int r, int v, __m256 w) { tile[vector + v][r] = w; }
};

constexpr int kMxfp8Group = 32;

/// The group of mxfp8 that begins with column `first`. Codes become f16 half a group ahead and pass through memory:
/// vcvtph2ps costs less from there than from a register, whose upper half has to be brought down first.
template <bool kFolded, typename Visit>
[[gnu::always_inline]] inline void decode_mxfp8_group(const BlockRows& rows, const ScaledE4m3<kFolded>& decoder,
                                                      int first, Visit& visit) {
  constexpr int kVectors = ScaledE4m3<kFolded>::kVectors;
  constexpr int kHalf = kVectors * kLanes;
  static_assert(2 * kHalf == kMxfp8Group);
  __m256i widened[2][kRowBlock];
  const auto widen = [&](int half, int r) __attribute__((always_inline)) {
    widened[half][r] = decoder.widen(rows.codes[r] + first + half * kHalf);
    asm("" : "+m"(widened[half][r]));  // or the compiler would keep it in a register
  };
  const auto scale = [&](int half, int r) __attribute__((always_inline)) {
    __m256 w[kVectors];
    decoder.scale(widened[half][r], r, w);
    for (int v = 0; v < kVectors; ++v) visit(r, v, w[v]);
  };
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) widen(0, r);
  visit.columns(first, kHalf);
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) {
    widen(1, r);
    scale(0, r);
  }
  visit.columns(first + kHalf, kHalf);
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) scale(1, r);
}

/// Columns [first, stop) of FP8 weights with blocks, all of one group.
template <typename Decoder, typename Visit>
[[gnu::always_inline]] inline void decode_fp8_group(const BlockRows& rows, const Decoder& decoder, int first, int stop,
                                                    Visit& visit) {
  constexpr int kTogether = Decoder::kVectors * kLanes;
  int column = first;
  for (; column + kTogether <= stop; column += kTogether) {
    visit.columns(column, kTogether);
#pragma GCC unroll 8
    for (int r = 0; r < kRowBlock; ++r) {
      __m256 w[Decoder::kVectors];
      decoder.decode(rows.codes[r] + column, r, w);
      for (int v = 0; v < Decoder::kVectors; ++v) visit(r, v, w[v]);
    }
  }
  const int rest = stop - column;
  if (rest <= 0) return;
  visit.columns(column, rest);
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) {  // the last columns, filled up with zeros
    std::byte last[kTogether] = {};
    memcpy(last, rows.codes[r] + column, static_cast<size_t>(rest));
    __m256 w[Decoder::kVectors];
    decoder.decode(last, r, w);
    for (int v = 0; v * kLanes < rest; ++v) {  // masked, since a zero times an infinite scale is none
      visit(r, v, _mm256_and_ps(w[v], _mm256_castsi256_ps(lane_mask(rest - v * kLanes))));
    }
  }
}

/// Visits columns [begin, end) of every row of the block. Groups are never cut: begin is a multiple of kTileColumns.
template <typename Weights, typename Visit>
[[gnu::always_inline]] inline void decode_block(const MatrixView& weights, const BlockRows& rows, int begin, int end,
                                                Visit visit) {
  if constexpr (!Weights::kGrouped) {
    int column = begin;
    for (; column + kLanes <= end; column += kLanes) {
      rows.prefetch_codes(int64_t{column} * Weights::kElement, kLanes * Weights::kElement);
      visit.columns(column, kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRowBlock; ++r) visit(r, 0, Weights::decode(rows.codes[r], column));
    }
    if (const int rest = end - column; rest > 0) {
      visit.columns(column, rest);
#pragma GCC unroll 8
      for (int r = 0; r < kRowBlock; ++r) {  // the last columns, filled up with zeros
        std::byte last[kLanes * Weights::kElement] = {};
        memcpy(last, rows.codes[r] + int64_t{column} * Weights::kElement,
               static_cast<size_t>(rest * Weights::kElement));
        visit(r, 0, Weights::decode(last, 0));
      }
    }
  } else {
    const int group = weights.format.group;
    const int bits = weights.format.bits;
    const int groups = (end - begin + group - 1) / group;
    TileScales tile;
    tile.convert(weights, rows, begin / group, groups);
    bool fast = false;  // for scales as they are: folded, or tables
    if constexpr (std::is_same_v<Weights, E4m3>) fast = tile.fold(groups);
    if constexpr (std::is_same_v<Weights, Fp8Block>) {
      const bool shared = rows.scales[0] == rows.scales[kRowBlock - 1];
      fast = shared && tile.within(groups, TabledE4m3::kLowest, TabledE4m3::kHighest);
      for (int g = 0; g < groups && !fast; ++g) with_plain_nans(tile.scale[g]);
    }
    for (int g = 0; g < groups; ++g) {
      const int first = begin + g * group;
      const int stop = first + group < end ? first + group : end;
      rows.prefetch_codes(int64_t{first} * bits / 8, (stop - first) * bits / 8);
      if constexpr (std::is_same_v<Weights, E4m3>) {
        if (fast) {
          decode_mxfp8_group(rows, ScaledE4m3<true>{tile.scale[g]}, first, visit);
        } else {
          decode_mxfp8_group(rows, ScaledE4m3<false>{tile.scale[g]}, first, visit);
        }
      } else if constexpr (std::is_same_v<Weights, Fp8Block>) {
        if (fast) {
          decode_fp8_group(rows, TabledE4m3(tile.scale[g][0]), first, stop, visit);
        } else {
          decode_fp8_group(rows, RoundedE4m3{tile.scale[g]}, first, stop, visit);
        }
      } else {
        for (int column = first; column < stop; column += kLanes) {
          visit.columns(column, kLanes);
#pragma GCC unroll 8
          for (int r = 0; r < kRowBlock; ++r) {
            const __m256 bias = Weights::kAffine ? splat(tile.bias[g][r]) : _mm256_setzero_ps();
            visit(r, 0, Weights::decode(rows.codes[r], column, splat(tile.scale[g][r]), bias));
          }
        }
      }
    }
  }
}

__m256 load_input(const InputRow& x, int column, int cols) {
  return column + kLanes <= cols ? load(x.x + column) : load_part(x.x + column, cols - column);
}

template <typename Weights>
void multiply(const MatrixView& weights, int row, int row_count, const InputRow* x, float* const* y, int inputs) {
  const BlockRows rows(weights, row, row_count);
  const int cols = weights.cols;
  __m256 acc[kMaxInputs][kRowBlock];
  for (int i = 0; i < inputs; ++i) {
    for (__m256& a : acc[i]) a = _mm256_setzero_ps();
  }
  for (int begin = 0; begin < cols; begin += kTileColumns) {
    const int end = cols - begin < kTileColumns ? cols : begin + kTileColumns;
    if (inputs < kTileInputs) {
      for (int i = 0; i < inputs; ++i) {
        __m256 sums[kRowBlock];
#pragma GCC unroll 8
        for (int r = 0; r < kRowBlock; ++r) sums[r] = acc[i][r];
        decode_block<Weights>(weights, rows, begin, end, AddProducts{sums, x[i].x, {}});
#pragma GCC unroll 8
        for (int r = 0; r < kRowBlock; ++r) acc[i][r] = sums[r];
      }
      continue;
    }
    __m256 tile[kTileColumns / kLanes][kRowBlock];
    decode_block<Weights>(weights, rows, begin, end, KeepTile{tile, begin, 0});
    for (int i = 0; i < inputs; ++i) {
      __m256 sums[kRowBlock];
      for (int r = 0; r < kRowBlock; ++r) sums[r] = acc[i][r];
      for (int column = begin; column < end; column += kLanes) {
        const __m256 xv = load_input(x[i], column, cols);
        for (int r = 0; r < kRowBlock; ++r) sums[r] = fma(tile[(column - begin) / kLanes][r], xv, sums[r]);
      }
      for (int r = 0; r < kRowBlock; ++r) acc[i][r] = sums[r];
    }
  }
  for (int i = 0; i < inputs; ++i) store_rows(y[i], row_count, sum_each(acc[i]));
}

// --- One row --------------------------------------------------------------------------------------------------------

template <typename Weights>
void decode_row(const MatrixView& weights, int row, int first, int count, float* w) {
  const std::byte* codes = weights.codes + row * weights.row_stride;
  const int end = first + count;
  if constexpr (!Weights::kGrouped) {
    int column = first;
    for (; column + kLanes <= end; column += kLanes) store(w + (column - first), Weights::decode(codes, column));
    std::byte last[kLanes * Weights::kElement] = {};
    const auto rest = static_cast<size_t>(end - column);
    memcpy(last, codes + int64_t{column} * Weights::kElement, rest * Weights::kElement);
    store_part(w + (column - first), Weights::decode(last, 0), end - column);
  } else {
    const int group = weights.format.group;
    for (int begin = first; begin < end; begin += group) {
      const int stop = begin + group < end ? begin + group : end;
      const float scale = group_scale(weights, row, begin / group);
      if constexpr (kIsFp8<Weights>) {
        using Decoder = std::conditional_t<std::is_same_v<Weights, E4m3>, ScaledE4m3<false>, RoundedE4m3>;
        const float scales[kRowBlock] = {scale != scale ? __builtin_nanf("") : scale};
        for (int column = begin; column < stop; column += 2 * kLanes) {
          std::byte last[2 * kLanes] = {};
          const int rest = stop - column < 2 * kLanes ? stop - column : 2 * kLanes;
          memcpy(last, codes + column, static_cast<size_t>(rest));
          __m256 eight[2];
          Decoder{scales}.decode(last, 0, eight);
          store_part(w + (column - first), eight[0], rest < kLanes ? rest : kLanes);
          if (rest > kLanes) store_part(w + (column - first) + kLanes, eight[1], rest - kLanes);
        }
      } else {
        const __m256 bias = Weights::kAffine ? splat(group_bias(weights, row, begin / group)) : _mm256_setzero_ps();
        for (int column = begin; column < stop; column += kLanes) {
          store(w + (column - first), Weights::decode(codes, column, splat(scale), bias));
        }
      }
    }
  }
}

// --- Which weights --------------------------------------------------------------------------------------------------

struct Functions {
  void (*multiply)(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);
  void (*decode)(const MatrixView& weights, int row, int first, int count, float* w);
};

template <typename Weights>
constexpr Functions kFunctions = {multiply<Weights>, decode_row<Weights>};

const Functions& functions(const Format& format) {
  switch (format.mode) {
    case Mode::plain:
      if (format.scale_type == DType::f32) return kFunctions<Plain<DType::f32>>;
      return format.scale_type == DType::f16 ? kFunctions<Plain<DType::f16>> : kFunctions<Plain<DType::bf16>>;
    case Mode::mxfp4:
    case Mode::nvfp4:
      return kFunctions<E2m1>;
    case Mode::mxfp8:
      return kFunctions<E4m3>;
    case Mode::fp8_block:
      return kFunctions<Fp8Block>;
    case Mode::affine:
    case Mode::symmetric:
      break;
  }
  switch (format.bits) {
    case 2:
      return kFunctions<Affine<2>>;
    case 3:
      return kFunctions<Affine<3>>;
    case 4:
      return kFunctions<Affine<4>>;
    case 5:
      return kFunctions<Affine<5>>;
    case 6:
      return kFunctions<Affine<6>>;
    default:
      return kFunctions<Affine<8>>;
  }
}

}  // namespace

void f32_block_avx2(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  functions(weights.format).multiply(weights, row, rows, x, y, inputs);
}

void decode_avx2(const MatrixView& weights, int row, int first, int count, float* w) {
  functions(weights.format).decode(weights, row, first, count, w);
}

}  // namespace sluice::kernels
