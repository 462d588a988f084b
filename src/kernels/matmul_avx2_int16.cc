// AVX2: products of integer weights and int16 activations, by pmaddwd, or by pmaddubsw where the codes are small enough
// for sums of 16 bits and would cost more to widen.
//
// The eight rows of a block are the eight lanes of every float vector, so each output is one scalar chain of
// operations in the canonical order. Inside a group the order of the integer sums is free.
#include "kernels/matmul_avx2_tile.h"

namespace sluice::kernels {
namespace {

__m256i load_int16(const int16_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

/// Makes the compiler finish a row before it begins the next. Left alone, gcc multiplies all rows first and adds
/// later, which takes more registers than there are.
void finish(__m256i& sum) { asm("" : "+x"(sum)); }

// --- One input: weights unpacked in registers -----------------------------------------------------------------------

/// How the codes of kGroup columns meet the chunks of a packing, and what of the activations meets a chunk.
template <typename Codes, int kGroup>
struct Chunks {
  static constexpr int kGroupBytes = kGroup * Codes::kBits / 8;
  static constexpr int kPieces = kGroupBytes < Codes::kChunkBytes ? Codes::kChunkBytes / kGroupBytes : 1;  // groups
  static constexpr int kCount = kPieces > 1 ? 1 : kGroupBytes / Codes::kChunkBytes;                        // of a group
  static constexpr int kBytes = kPieces * kGroupBytes;
  static constexpr int kVectors = Codes::kPlanes * (Codes::kSplit ? 2 : 1);  // split: upper, then lower bytes
};

/// The activations that meet kCount chunks, from those of the group `codes` on.
template <typename Codes, int kGroup>
[[gnu::always_inline]] inline void load_activations(
    const int16_t* codes, __m256i (&x)[Chunks<Codes, kGroup>::kCount][Chunks<Codes, kGroup>::kVectors]) {
  using C = Chunks<Codes, kGroup>;
  constexpr int kStride = kGroup * static_cast<int>(sizeof(int16_t));
  constexpr int kHalfBytes = Codes::kSplit ? kGroup : kStride;
  for (int c = 0; c < C::kCount; ++c) {
    const auto* at = reinterpret_cast<const std::byte*>(codes) + c * 32;
    for (int half = 0; half < kStride / kHalfBytes; ++half) {
      gather_planes<C::kPieces, Codes::kPlanes>(at + half * kHalfBytes, kStride, kHalfBytes / Codes::kPlanes,
                                                x[c] + half * Codes::kPlanes);
    }
  }
}

/// Products of one row and the activations of the chunks at `at`. kGuarded: only `bytes` of the last chunk may be read.
template <typename Codes, int kChunks, int kVectors, bool kGuarded>
[[gnu::always_inline]] inline __m256i row_products(const std::byte* at, int bytes,
                                                   const __m256i (&x)[kChunks][kVectors]) {
  __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int c = 0; c < kChunks; ++c, at += Codes::kChunkBytes) {
    __m256i planes[Codes::kPlanes];
    Codes::unpack(kGuarded ? Codes::load_part(at, bytes) : Codes::load(at), planes);
    for (int p = 0; p < Codes::kPlanes; ++p) {
      if constexpr (Codes::kSplit) {
        for (int h = 0; h < 2; ++h) {
          sums[h] = _mm256_add_epi16(sums[h], _mm256_maddubs_epi16(planes[p], x[c][h * Codes::kPlanes + p]));
        }
      } else {
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(planes[p], x[c][p]));
      }
    }
  }
  if constexpr (Codes::kSplit) {
    static_assert(kChunks * Codes::kPlanes * 2 * Codes::kLargest * 128 < 32768, "sums of pmaddubsw fit in words");
    sums[0] = _mm256_madd_epi16(sums[0], _mm256_set1_epi16(256));
    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(sums[1], _mm256_set1_epi16(1)));
  }
  return sums[0];
}

/// The sums of the groups of the chunks at `offset`. Overlapped, rows are added up pair by pair, which takes few
/// registers, and between() is called when the first two are done: for work that does not depend on them.
template <typename Codes, int kChunks, int kVectors, bool kGuarded, int kPieces, typename Between>
[[gnu::always_inline]] inline void block_sums(const BlockRows& rows, int64_t offset, int bytes,
                                              const __m256i (&x)[kChunks][kVectors], __m256i (&sums)[kPieces],
                                              Between between) {
  const int64_t ahead = rows.ahead_in_rows(offset);
  const auto row = [&](int r) __attribute__((always_inline)) {
    rows.prefetch_row(r, ahead);
    __m256i products = row_products<Codes, kChunks, kVectors, kGuarded>(rows.codes[r] + offset, bytes, x);
    finish(products);
    return products;
  };
  if constexpr (Codes::kOverlapped) {
    RowSums<kPieces> tree;
    const __m256i row0 = row(0);
    const __m256i row1 = row(1);
    between();
    tree.template add<0>(row0, row1);
    const __m256i row2 = row(2);
    tree.template add<1>(row2, row(3));
    const __m256i row4 = row(4);
    tree.template add<2>(row4, row(5));
    const __m256i row6 = row(6);
    tree.template add<3>(row6, row(7));
    tree.finish(sums);
  } else {
    __m256i acc[kRowBlock];
#pragma GCC unroll 8
    for (int r = 0; r < kRowBlock; ++r) acc[r] = row(r);
    reduce(acc, sums);
  }
}

/// y = W x for one row block, whose groups are kGroup columns.
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

    const auto add_groups = [&](int in_tile, const __m256i(&products)[C::kPieces]) __attribute__((always_inline)) {
      for (int k = 0; k < C::kPieces && in_tile + k < tile_groups; ++k) {
        const int g = tile + in_tile + k;
        sum = scales.step<Codes::kAffine>(sum, offsets.taken_from(products[k], in_tile + k), in_tile + k, x.scales + g,
                                          x.sums + g);
      }
    };
    // Overlapped, the step in f32, a chain of operations, runs beside the products of the next groups.
    __m256i last[C::kPieces];
    int in_tile = 0;
    for (; in_tile < tile_groups; in_tile += C::kPieces) {
      const int g = tile + in_tile;
      const int64_t offset = int64_t{g} * C::kGroupBytes;
      rows.prefetch_codes(offset, C::kBytes);
      __m256i activations[C::kCount][C::kVectors];
      load_activations<Codes, kGroup>(x.codes + int64_t{g} * kGroup, activations);
      __m256i products[C::kPieces];
      const auto between = [&]() __attribute__((always_inline)) {
        if (in_tile > 0) add_groups(in_tile - C::kPieces, last);
      };
      const int left = (groups - g) * C::kGroupBytes;
      constexpr bool kWhole = C::kPieces == 1 && Codes::kReadBeyond == 0;  // chunks end where groups do
      // [[likely]] keeps the other body out of the loop: with both in it, mxfp4 took up to 40 % longer on Zen 4.
      if (kWhole || left >= C::kBytes + Codes::kReadBeyond) [[likely]] {
        block_sums<Codes, C::kCount, C::kVectors, false>(rows, offset, 0, activations, products, between);
      } else {
        block_sums<Codes, C::kCount, C::kVectors, true>(rows, offset, left, activations, products, between);
      }
      if constexpr (Codes::kOverlapped) {
        for (int k = 0; k < C::kPieces; ++k) last[k] = products[k];
      } else {
        add_groups(in_tile, products);
      }
    }
    if constexpr (Codes::kOverlapped) add_groups(in_tile - C::kPieces, last);
  }
  store_rows(y, row_count, sum);
}

// --- Many inputs: weights unpacked once -----------------------------------------------------------------------------

struct WordTile {
  /// Row after row.
  template <int kGroup>
  static constexpr int place(int row, int lane) {
    return row * kGroup + lane;
  }

  template <int kGroup, bool kAffine>
  static void multiply(const Tile& tile, const GroupScales& scales, int first, int count, const InputRow* x, int inputs,
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
};

}  // namespace

ActivationLayout int16_layout_avx2(const Format& format, int inputs) {
  const bool split = inputs < kTileInputs;  // of the packings of bytes; tiles are words
  if (!is_affine(format)) return {format.group, Fp4Bytes::kPlanes, split};
  if (format.bits == 2) return {format.group, Affine2Bytes::kPlanes, split};
  const bool lanes = format.bits == 4 || format.bits == 8;
  return {format.group, lanes ? 16 / format.bits : 1};
}

void int16_block_avx2(const MatrixView& weights, int row, int row_count, const InputRow* x, float* const* y,
                      int inputs) {
  const BlockRows rows(weights, row, row_count);
  for_packing(weights.format, [&]<typename Codes, int kGroup>(Packing<Codes, kGroup>) {
    if (inputs >= kTileInputs) return multiply_many<Codes, kGroup, WordTile>(weights, rows, x, y, row_count, inputs);
    for (int i = 0; i < inputs; ++i) multiply_one<Codes, kGroup>(weights, rows, x[i], y[i], row_count);
  });
}

}  // namespace sluice::kernels
