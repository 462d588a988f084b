// AVX2: products of integer weights and int16 activations, by pmaddwd.
//
// The eight rows of a block are the eight lanes of every float vector, so each output is one scalar chain of
// operations in the canonical order. Inside a group the order of the integer sums is free.
#include "kernels/matmul_avx2_codes.h"
#include "kernels/matmul_avx2_groups.h"

namespace sluice::kernels {
namespace {

/// Columns of the unpacked tile: with 8 rows of 16-bit numbers 16 KiB, half of the L1 cache.
constexpr int kTileColumns = 1024;

const __m128i* vector128(const int16_t* at) { return reinterpret_cast<const __m128i*>(at); }
__m256i load_int16(const int16_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

/// Makes the compiler finish a row before it begins the next. Left alone, gcc multiplies all rows first and adds
/// later, which takes more registers than there are.
void finish(__m256i& sum) { asm("" : "+x"(sum)); }

// --- One input: weights unpacked in registers -----------------------------------------------------------------------

/// Plane p of a chunk that holds kPieces groups, from activations that lie group by group.
template <int kPieces, int kGroup>
__m256i gather_plane(const int16_t* x, int p) {
  const int16_t* at = x + p * (16 / kPieces);
  if constexpr (kPieces == 2) return _mm256_loadu2_m128i(vector128(at + kGroup), vector128(at));
  const __m128i low = _mm_unpacklo_epi64(_mm_loadl_epi64(vector128(at)), _mm_loadl_epi64(vector128(at + kGroup)));
  const __m128i high =
      _mm_unpacklo_epi64(_mm_loadl_epi64(vector128(at + 2 * kGroup)), _mm_loadl_epi64(vector128(at + 3 * kGroup)));
  return _mm256_set_m128i(high, low);
}

/// Products of one row and the activations of the chunks at `at`. kGuarded: only `bytes` of the last chunk may be read.
template <typename Codes, int kChunks, bool kGuarded>
[[gnu::always_inline]] inline __m256i row_products(const std::byte* at, int bytes,
                                                   const __m256i (&x)[kChunks][Codes::kPlanes]) {
  __m256i sum = _mm256_setzero_si256();
  for (int c = 0; c < kChunks; ++c, at += Codes::kChunkBytes) {
    __m256i planes[Codes::kPlanes];
    Codes::unpack(kGuarded ? Codes::load_part(at, bytes) : Codes::load(at), planes);
    for (int p = 0; p < Codes::kPlanes; ++p) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(planes[p], x[c][p]));
  }
  return sum;
}

template <typename Codes, int kChunks, bool kGuarded>
[[gnu::always_inline]] inline void block_products(const BlockRows& rows, int64_t offset, int bytes,
                                                  const __m256i (&x)[kChunks][Codes::kPlanes],
                                                  __m256i (&products)[kRowBlock]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRowBlock; ++r) {
    rows.prefetch_row(r, offset);
    products[r] = row_products<Codes, kChunks, kGuarded>(rows.codes[r] + offset, bytes, x);
    finish(products[r]);
  }
}

/// y = W x for one row block, whose groups are kGroup columns.
template <typename Codes, int kGroup>
void multiply_one(const MatrixView& weights, const BlockRows& rows, const InputRow& x, float* y, int row_count) {
  constexpr int kGroupBytes = kGroup * Codes::kBits / 8;
  constexpr int kPieces = kGroupBytes < Codes::kChunkBytes ? Codes::kChunkBytes / kGroupBytes : 1;  // groups in a chunk
  constexpr int kChunks = kPieces > 1 ? 1 : kGroupBytes / Codes::kChunkBytes;                       // of a group
  const int groups = weights.cols / kGroup;
  GroupScales scales;
  __m256 sum = _mm256_setzero_ps();
  for (int tile = 0; tile < groups; tile += kScaleTile) {
    const int tile_groups = groups - tile < kScaleTile ? groups - tile : kScaleTile;
    scales.convert<Codes::kAffine>(rows, weights.format, tile, tile_groups);
    for (int in_tile = 0; in_tile < tile_groups; in_tile += kPieces) {
      const int g = tile + in_tile;
      const int16_t* codes = x.codes + int64_t{g} * kGroup;
      const int64_t offset = int64_t{g} * kGroupBytes;
      rows.prefetch_codes(offset, kPieces * kGroupBytes);
      __m256i planes[kChunks][Codes::kPlanes];
      for (int c = 0; c < kChunks; ++c) {
        for (int p = 0; p < Codes::kPlanes; ++p) {
          planes[c][p] = kPieces > 1 ? gather_plane<kPieces, kGroup>(codes, p)
                                     : load_int16(codes + p * (kGroup / Codes::kPlanes) + c * 16);
        }
      }
      __m256i acc[kRowBlock];
      const int left = (groups - g) * kGroupBytes;
      if (left >= kPieces * kGroupBytes + Codes::kReadBeyond) {
        block_products<Codes, kChunks, false>(rows, offset, 0, planes, acc);
      } else {
        block_products<Codes, kChunks, true>(rows, offset, left, planes, acc);
      }
      __m256i products[kPieces];
      reduce(acc, products);
      for (int k = 0; k < kPieces && in_tile + k < tile_groups; ++k) {
        sum = scales.step<Codes::kAffine>(sum, products[k], in_tile + k, x.scales + g + k, x.sums + g + k);
      }
    }
  }
  store_rows(y, row_count, sum);
}

// --- Many inputs: weights unpacked once -----------------------------------------------------------------------------

/// Unpacked weights: for each group, its columns of row 0 in the order of the layout, those of row 1, ...
struct alignas(32) Tile {
  int16_t codes[kTileColumns * kRowBlock];
};

/// Unpacks groups [first, first + count) of a row block.
template <typename Codes, int kGroup>
void unpack_tile(const BlockRows& rows, int first, int count, bool at_end, Tile& tile) {
  constexpr int kPlaneLanes = kGroup / Codes::kPlanes;              // of one group
  constexpr int kLanes = kPlaneLanes < 16 ? kPlaneLanes : 16;       // that lie together in a chunk and in the tile
  constexpr int kPieces = 16 / kLanes;                              // groups in a chunk
  constexpr int kChunks = kPlaneLanes < 16 ? 1 : kPlaneLanes / 16;  // of a group
  const int64_t begin = int64_t{first} * kGroup * Codes::kBits / 8;
  const int bytes = count * kGroup * Codes::kBits / 8;
  for (int r = 0; r < kRowBlock; ++r) {
    const std::byte* at = rows.codes[r] + begin;
    int left = bytes;
    for (int group = 0; group < count; group += kPieces) {
      for (int c = 0; c < kChunks; ++c, at += Codes::kChunkBytes, left -= Codes::kChunkBytes) {
        const bool guarded = left < Codes::kChunkBytes + (at_end ? Codes::kReadBeyond : 0);
        __m256i planes[Codes::kPlanes];
        Codes::unpack(guarded ? Codes::load_part(at, left) : Codes::load(at), planes);
        for (int p = 0; p < Codes::kPlanes; ++p) {
          int16_t lanes[16];
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), planes[p]);
          for (int k = 0; k < kPieces && group + k < count; ++k) {
            const int to = ((group + k) * kRowBlock + r) * kGroup + p * kPlaneLanes + c * 16;
            memcpy(tile.codes + to, lanes + k * kLanes, kLanes * sizeof(int16_t));
          }
        }
      }
    }
  }
}

/// sums[i] += the tile times input i.
template <int kGroup, bool kAffine>
void multiply_tile(const Tile& tile, const GroupScales& scales, int first, int count, const InputRow* x, int inputs,
                   __m256* sums) {
  constexpr int kVectors = kGroup / 16;
  for (int i = 0; i < inputs; ++i) {
    const int16_t* codes = x[i].codes + int64_t{first} * kGroup;
    const int16_t* weights = tile.codes;
    __m256 sum = sums[i];
    for (int g = 0; g < count; ++g, codes += kGroup, weights += kRowBlock * kGroup) {
      __m256i xs[kVectors];
      for (int v = 0; v < kVectors; ++v) xs[v] = load_int16(codes + v * 16);
      __m256i acc[kRowBlock];
#pragma GCC unroll 8
      for (int r = 0; r < kRowBlock; ++r) {
        const int16_t* row = weights + r * kGroup;
        acc[r] = _mm256_madd_epi16(xs[0], load_int16(row));
        for (int v = 1; v < kVectors; ++v) {
          acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(xs[v], load_int16(row + v * 16)));
        }
        finish(acc[r]);
      }
      __m256i products[1];
      reduce(acc, products);
      sum = scales.step<kAffine>(sum, products[0], g, x[i].scales + first + g, x[i].sums + first + g);
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
    unpack_tile<Codes, kGroup>(rows, first, count, first + count == groups, tile);
    multiply_tile<kGroup, Codes::kAffine>(tile, scales, first, count, x, inputs, sums);
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

}  // namespace

ActivationLayout int16_layout_avx2(const Format& format) {
  const bool lanes = format.bits == 2 || format.bits == 4 || format.bits == 8;
  return {format.group, lanes ? 16 / format.bits : 1};
}

void int16_block_avx2(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  const Format& format = weights.format;
  if (format.mode == Mode::mxfp4) return multiply<Fp4Lanes, 32>(weights, row, rows, x, y, inputs);
  if (format.mode == Mode::nvfp4) return multiply<Fp4Lanes, 16>(weights, row, rows, x, y, inputs);
  switch (format.bits) {
    case 2:
      return multiply_affine<AffineLanes<2>>(weights, row, rows, x, y, inputs);
    case 3:
      return multiply_affine<AffineStream<3>>(weights, row, rows, x, y, inputs);
    case 4:
      return multiply_affine<AffineLanes<4>>(weights, row, rows, x, y, inputs);
    case 5:
      return multiply_affine<AffineStream<5>>(weights, row, rows, x, y, inputs);
    case 6:
      return multiply_affine<AffineStream<6>>(weights, row, rows, x, y, inputs);
    default:
      return multiply_affine<AffineLanes<8>>(weights, row, rows, x, y, inputs);
  }
}

}  // namespace sluice::kernels
