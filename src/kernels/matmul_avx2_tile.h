// AVX2: many inputs, for all of which the weights of a row block are unpacked once. Included by matmul_avx2_int16.cc
// and matmul_avx512_tile.cc only, each of which says how a tile is multiplied.
#pragma once

#include <type_traits>

#include "kernels/matmul_avx2_codes.h"
#include "kernels/matmul_avx2_groups.h"

namespace sluice::kernels {
namespace {

/// Columns of the unpacked tile: with 8 rows of 16-bit numbers 16 KiB, half of the L1 cache.
constexpr int kTileColumns = 1024;

/// Unpacked weights: for each group, the eight rows of its columns, in the order of the layout. Words even for packings
/// of bytes: once the weights are unpacked, products of bytes only take more instructions.
struct alignas(64) Tile {
  int16_t codes[kTileColumns * kRowBlock];
};

/// Unpacks groups [first, first + count) of a row block.
template <typename Codes, int kGroup, typename Kernel>
void unpack_tile(const BlockRows& rows, int first, int count, bool at_end, Tile& tile) {
  constexpr int kPlaneLanes = kGroup / Codes::kPlanes;              // of one group
  constexpr int kPieces = kPlaneLanes < 16 ? 16 / kPlaneLanes : 1;  // groups in a chunk
  constexpr int kChunks = kPlaneLanes < 16 ? 1 : kPlaneLanes / 16;  // of a group
  static_assert(kPieces <= 2);
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
          int16_t* to =
              tile.codes + group * kRowBlock * kGroup + Kernel::template place<kGroup>(r, p * kPlaneLanes + c * 16);
          if constexpr (kPieces == 1) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), planes[p]);
          } else {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(planes[p]));
            if (group + 1 == count) continue;
            to += kRowBlock * kGroup;
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_extracti128_si256(planes[p], 1));
          }
        }
      }
    }
  }
}

/// y[i] = W x[i] for one row block. Kernel says how the rows of a group lie beside each other and multiplies them:
///
///   place<kGroup>(row, lane)              where `lane` of a row lies, from the group's first code on. Sixteen lanes
///   from
///                                         a multiple of sixteen on lie together.
///   multiply<kGroup, kAffine>(tile, scales, first, count, x, inputs, sums)
///                                         sums[i] += the tile, which holds groups [first, first + count), times x[i]
template <typename Codes, int kGroup, typename Kernel>
void multiply_many(const MatrixView& weights, const BlockRows& rows, const InputRow* x, float* const* y, int row_count,
                   int inputs) {
  using TileCodes = std::conditional_t<Codes::kSplit, Widened<Codes>, Codes>;
  constexpr int kTileGroups = kTileColumns / kGroup;
  const int groups = weights.cols / kGroup;
  Tile tile;
  GroupScales scales;
  __m256 sums[kMaxInputs];
  for (int i = 0; i < inputs; ++i) sums[i] = _mm256_setzero_ps();
  for (int first = 0; first < groups; first += kTileGroups) {
    const int count = groups - first < kTileGroups ? groups - first : kTileGroups;
    scales.convert<Codes::kAffine>(rows, weights.format, first, count);
    unpack_tile<TileCodes, kGroup, Kernel>(rows, first, count, first + count == groups, tile);
    Kernel::template multiply<kGroup, Codes::kAffine>(tile, scales, first, count, x, inputs, sums);
  }
  for (int i = 0; i < inputs; ++i) store_rows(y[i], row_count, sums[i]);
}

}  // namespace
}  // namespace sluice::kernels
