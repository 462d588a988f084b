// AVX-512: products of integer weights and int16 activations, by vpdpbusd.
//
// An activation is 256 * upper + lower with signed bytes, the weights are unsigned bytes, and vpdpbusd adds four of
// their products to a 32-bit number without rounding or saturation. Vectors are 256 bits wide: the horizontal sums and
// the step in f32 work on eight rows, so wider ones would only be cut, and half-width vectors keep three ports busy
// where the full width has two.
#include "kernels/matmul_avx2_groups.h"
#include "kernels/matmul_avx512_codes.h"

namespace sluice::kernels {
namespace {

/// Columns of the unpacked tile: with 8 rows of bytes 8 KiB, a quarter of the L1 cache.
constexpr int kTileColumns = 1024;

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

// --- One input: weights unpacked in registers -----------------------------------------------------------------------

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
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) {
    rows.prefetch_row(r, offset);
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
      if (left >= C::kBytes + C::kReadBeyond) {
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

// --- Many inputs: weights unpacked once -----------------------------------------------------------------------------

/// Unpacked weights: for each group, its columns of row 0 in the order of the layout, those of row 1, ...
struct alignas(32) Tile {
  uint8_t codes[kTileColumns * kRowBlock + 32];  // what a load of half a vector reads behind
};

/// Unpacks groups [first, first + count) of a row block.
template <typename Codes, int kGroup>
void unpack_tile(const BlockRows& rows, int first, int count, Tile& tile) {
  using C = Chunks<Codes, kGroup>;
  constexpr int kPlaneBytes = kGroup / Codes::kPlanes;            // of one group
  constexpr int kTogether = kPlaneBytes < 32 ? kPlaneBytes : 32;  // that lie together in a chunk and in the tile
  const int bytes = count * C::kGroupBytes;
  for (int r = 0; r < kRowBlock; ++r) {
    const std::byte* at = rows.codes[r] + int64_t{first} * C::kGroupBytes;
    int left = bytes;
    for (int group = 0; group < count; group += C::kPieces) {
      for (int c = 0; c < C::kCount; ++c, at += Codes::kChunkBytes, left -= Codes::kChunkBytes) {
        __m256i planes[Codes::kPlanes];
        Codes::unpack(load_chunk<true>(at, left), planes);
        for (int p = 0; p < Codes::kPlanes; ++p) {
          alignas(32) uint8_t codes[32];
          _mm256_store_si256(reinterpret_cast<__m256i*>(codes), planes[p]);
          for (int k = 0; k < C::kPieces && group + k < count; ++k) {
            const int to = ((group + k) * kRowBlock + r) * kGroup + p * kPlaneBytes + c * 32;
            memcpy(tile.codes + to, codes + k * kTogether, kTogether);
          }
        }
      }
    }
  }
}

/// sums[i] += the tile times input i.
template <typename Codes, int kGroup>
void multiply_tile(const Tile& tile, const GroupScales& scales, int first, int count, const InputRow* x, int inputs,
                   __m256* sums) {
  constexpr int kVectors = kGroup < 32 ? 1 : kGroup / 32;
  constexpr __mmask32 kColumns = kGroup < 32 ? 0xFFFFU : ~__mmask32{0};
  for (int i = 0; i < inputs; ++i) {
    const auto* codes = reinterpret_cast<const int8_t*>(x[i].codes + int64_t{first} * kGroup);
    const uint8_t* weights = tile.codes;
    const OffsetSums<Codes::kOffset> offsets(x[i].sums + first, count);
    __m256 sum = sums[i];
    for (int g = 0; g < count; ++g, codes += 2 * kGroup, weights += kRowBlock * kGroup) {
      Split split[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        // Of a group of 16, the other half of the vector is zero: so what its weights are does not matter.
        split[v] = {_mm256_maskz_loadu_epi8(kColumns, codes + v * 32),
                    _mm256_maskz_loadu_epi8(kColumns, codes + kGroup + v * 32)};
      }
      __m256i acc[kRowBlock];
#pragma GCC unroll 8
      for (int r = 0; r < kRowBlock; ++r) {
        __m256i row[kVectors];
        for (int v = 0; v < kVectors; ++v) {
          row[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + r * kGroup + v * 32));
        }
        acc[r] = products(row, split);
      }
      __m256i group[1];
      reduce(acc, group);
      sum = scales.step<Codes::kAffine>(sum, offsets.taken_from(group[0], g), g, x[i].scales + first + g,
                                        x[i].sums + first + g);
    }
    sums[i] = sum;
  }
}

template <typename Codes, int kGroup>
void multiply_many(const MatrixView& weights, const BlockRows& rows, const InputRow* x, float* const* y, int row_count,
                   int inputs) {
  constexpr int kTileGroups = kTileColumns / kGroup;
  const int groups = weights.cols / kGroup;
  Tile tile;
  GroupScales scales;
  __m256 sums[kMaxInputs];
  for (int i = 0; i < inputs; ++i) sums[i] = _mm256_setzero_ps();
  for (int first = 0; first < groups; first += kTileGroups) {
    const int count = groups - first < kTileGroups ? groups - first : kTileGroups;
    scales.convert<Codes::kAffine>(rows, weights.format, first, count);
    unpack_tile<Codes, kGroup>(rows, first, count, tile);
    multiply_tile<Codes, kGroup>(tile, scales, first, count, x, inputs, sums);
  }
  for (int i = 0; i < inputs; ++i) store_rows(y[i], row_count, sums[i]);
}

template <typename Codes, int kGroup>
void multiply(const MatrixView& weights, int row, int row_count, const InputRow* x, float* const* y, int inputs) {
  const BlockRows rows(weights, row, row_count);
  if (inputs >= kTileInputs) return multiply_many<Codes, kGroup>(weights, rows, x, y, row_count, inputs);
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

ActivationLayout layout(const Format& format, int) {
  const bool bytes = format.bits == 2 || format.bits == 4;
  return {format.group, bytes ? 8 / format.bits : 1, true};
}

}  // namespace

// Products in f32 do not gain from more than AVX2: their lanes are eight by definition.
const MatmulKernels kMatmulAvx512 = {layout,         quantize_avx2, int16_block,
                                     f32_block_avx2, decode_avx2,   weighted_add_avx2};

}  // namespace sluice::kernels
