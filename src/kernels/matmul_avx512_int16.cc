// AVX-512: products of integer weights and few int16 activations, by vpdpbusd. (Many: matmul_avx512_tile.cc.)
//
// An activation is 256 * upper + lower with signed bytes, the weights are unsigned bytes, and vpdpbusd adds four of
// their products to a 32-bit number without rounding or saturation. Vectors are 256 bits wide: the horizontal sums and
// the step in f32 work on eight rows, so wider ones would only be cut, and half-width vectors keep three ports busy
// where the full width has two.
#include "kernels/matmul_avx2_groups.h"
#include "kernels/matmul_avx512_codes.h"

namespace sluice::kernels {
namespace {

/// The two halves of a vector of activations.
struct Split {
  __m256i upper, lower;
};

/// How the codes of kGroup columns meet the chunks of a packing.
template <typename Codes, int kGroup>
struct Chunks {
  static constexpr int kCodes = 32 * Codes::kPlanes;                     // of a chunk
  static constexpr int kPieces = kGroup < kCodes ? kCodes / kGroup : 1;  // groups in a chunk
  static constexpr int kCount = kPieces > 1 ? 1 : kGroup / kCodes;       // of a group
  static constexpr int kGroupBytes = kGroup * Codes::kBits / 8;
  static constexpr int kBytes = kPieces * kGroupBytes;         // of kCount chunks
  static constexpr int kReadBeyond = 32 - Codes::kChunkBytes;  // bytes that a load takes too many
};

/// The activations that meet kCount chunks, from group `x` on.
template <typename Codes, int kGroup>
[[gnu::always_inline]] inline void load_split(const int16_t* x,
                                              Split (&split)[Chunks<Codes, kGroup>::kCount][Codes::kPlanes]) {
  using C = Chunks<Codes, kGroup>;
  for (int c = 0; c < C::kCount; ++c) {
    const auto* at = reinterpret_cast<const std::byte*>(x) + c * 32;
    __m256i halves[2][Codes::kPlanes];
    for (int h = 0; h < 2; ++h) {
      gather_planes<C::kPieces, Codes::kPlanes>(at + h * kGroup, 2 * kGroup, kGroup / Codes::kPlanes, halves[h]);
    }
    for (int p = 0; p < Codes::kPlanes; ++p) split[c][p] = {halves[0][p], halves[1][p]};
  }
}

/// 256 * the products with the upper bytes, plus those with the lower ones. At most 255 * 128 * 128 * 256 < 2^31.
template <int kVectors>
[[gnu::always_inline]] inline __m256i products(const __m256i (&weights)[kVectors], const Split (&x)[kVectors]) {
  __m256i upper = _mm256_setzero_si256();
  __m256i lower = _mm256_setzero_si256();
  for (int v = 0; v < kVectors; ++v) {
    upper = _mm256_dpbusd_epi32(upper, weights[v], x[v].upper);
    lower = _mm256_dpbusd_epi32(lower, weights[v], x[v].lower);
  }
  return _mm256_add_epi32(_mm256_slli_epi32(upper, 8), lower);
}

/// Bytes [at, at + 32), or the first `bytes` of them.
template <bool kGuarded>
__m256i load_chunk(const std::byte* at, int bytes) {
  if constexpr (kGuarded) {
    return _mm256_maskz_loadu_epi8(bytes >= 32 ? ~__mmask32{0} : (__mmask32{1} << bytes) - 1, at);
  }
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

/// kGuarded: only `left` bytes may be read.
template <typename Codes, int kGroup, bool kGuarded>
[[gnu::always_inline]] inline void block_products(const BlockRows& rows, int64_t offset, int left,
                                                  const Split (&x)[Chunks<Codes, kGroup>::kCount][Codes::kPlanes],
                                                  __m256i (&sums)[kRowBlock]) {
  constexpr int kCount = Chunks<Codes, kGroup>::kCount;
  Split all[kCount * Codes::kPlanes];
  for (int c = 0; c < kCount; ++c) {
    for (int p = 0; p < Codes::kPlanes; ++p) all[c * Codes::kPlanes + p] = x[c][p];
  }
  const int64_t ahead = rows.ahead_in_rows(offset);
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) {
    rows.prefetch_row(r, ahead);
    const std::byte* at = rows.codes[r] + offset;
    __m256i weights[kCount * Codes::kPlanes];
    for (int c = 0; c < kCount; ++c) {
      __m256i planes[Codes::kPlanes];
      Codes::unpack(load_chunk<kGuarded>(at + c * Codes::kChunkBytes, left - c * Codes::kChunkBytes), planes);
      for (int p = 0; p < Codes::kPlanes; ++p) weights[c * Codes::kPlanes + p] = planes[p];
    }
    sums[r] = products(weights, all);
  }
}

template <typename Codes, int kGroup>
void multiply_one(const MatrixView& weights, const BlockRows& rows, const InputRow& x, float* y, int row_count) {
  using C = Chunks<Codes, kGroup>;
  const int groups = weights.cols / kGroup;
  GroupScales scales;
  __m256 sum = _mm256_setzero_ps();
  for (int tile = 0; tile < groups; tile += kScaleTile) {
    const int tile_groups = groups - tile < kScaleTile ? groups - tile : kScaleTile;
    scales.convert<Codes::kAffine>(rows, weights.format, tile, tile_groups);
    const OffsetSums<Codes::kOffset> offsets(x.sums + tile, tile_groups);

    const auto multiply_groups = [&](int in_tile, __m256i(&acc)[kRowBlock]) __attribute__((always_inline)) {
      const int g = tile + in_tile;
      const int64_t offset = int64_t{g} * C::kGroupBytes;
      rows.prefetch_codes(offset, C::kBytes);
      Split split[C::kCount][Codes::kPlanes];
      load_split<Codes, kGroup>(x.codes + int64_t{g} * kGroup, split);
      const int left = (groups - g) * C::kGroupBytes;
      constexpr bool kWhole = C::kPieces == 1 && C::kReadBeyond == 0;  // chunks end where groups do
      if (kWhole || left >= C::kBytes + C::kReadBeyond) {
        block_products<Codes, kGroup, false>(rows, offset, left, split, acc);
      } else {
        block_products<Codes, kGroup, true>(rows, offset, left, split, acc);
      }
    };
    const auto add_groups = [&](int in_tile, const __m256i(&acc)[kRowBlock]) __attribute__((always_inline)) {
      const int g = tile + in_tile;
      __m256i sums[C::kPieces];
      reduce(acc, sums);
      for (int k = 0; k < C::kPieces && in_tile + k < tile_groups; ++k) {
        sum = scales.step<Codes::kAffine>(sum, offsets.taken_from(sums[k], in_tile + k), in_tile + k, x.scales + g + k,
                                          x.sums + g + k);
      }
    };

    // The sums of a group are added up while the next one is multiplied: in a row, the two are one chain of operations
    // that is longer than the processor can look ahead.
    __m256i acc[kRowBlock];
    multiply_groups(0, acc);
    int in_tile = 0;
    for (; in_tile + C::kPieces < tile_groups; in_tile += C::kPieces) {
      __m256i next[kRowBlock];
      multiply_groups(in_tile + C::kPieces, next);
      add_groups(in_tile, acc);
      for (int r = 0; r < kRowBlock; ++r) acc[r] = next[r];
    }
    add_groups(in_tile, acc);
  }
  store_rows(y, row_count, sum);
}

template <typename Codes, int kGroup>
void multiply(const MatrixView& weights, int row, int row_count, const InputRow* x, float* const* y, int inputs) {
  const BlockRows rows(weights, row, row_count);
  for (int i = 0; i < inputs; ++i) multiply_one<Codes, kGroup>(weights, rows, x[i], y[i], row_count);
}

template <typename Codes>
void multiply_affine(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  const auto product = weights.format.group == 32   ? multiply<Codes, 32>
                       : weights.format.group == 64 ? multiply<Codes, 64>
                                                    : multiply<Codes, 128>;
  product(weights, row, rows, x, y, inputs);
}

void int16_block(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  if (inputs >= kTileInputs) return int16_tile_avx512(weights, row, rows, x, y, inputs);
  const Format& format = weights.format;
  if (format.mode == Mode::mxfp4) return multiply<Fp4Bytes, 32>(weights, row, rows, x, y, inputs);
  if (format.mode == Mode::nvfp4) return multiply<Fp4Bytes, 16>(weights, row, rows, x, y, inputs);
  switch (format.bits) {
    case 2:
      return multiply_affine<AffineBytes<2>>(weights, row, rows, x, y, inputs);
    case 3:
      return multiply_affine<AffineStreamBytes<3>>(weights, row, rows, x, y, inputs);
    case 4:
      return multiply_affine<AffineBytes<4>>(weights, row, rows, x, y, inputs);
    case 5:
      return multiply_affine<AffineStreamBytes<5>>(weights, row, rows, x, y, inputs);
    case 6:
      return multiply_affine<AffineStreamBytes<6>>(weights, row, rows, x, y, inputs);
    default:
      return multiply_affine<AffineBytes<8>>(weights, row, rows, x, y, inputs);
  }
}

// --- Activations ----------------------------------------------------------------------------------------------------

ActivationLayout layout(const Format& format, int inputs) {
  if (inputs >= kTileInputs) return int16_layout_avx2(format, inputs);
  const bool bytes = format.bits == 2 || format.bits == 4;
  return {format.group, bytes ? 8 / format.bits : 1, true};
}

}  // namespace

// Products in f32 do not gain from more than AVX2: their lanes are eight by definition.
const MatmulKernels kMatmulAvx512 = {layout,         quantize_avx2, int16_block,
                                     f32_block_avx2, decode_avx2,   weighted_add_avx2};

}  // namespace sluice::kernels
