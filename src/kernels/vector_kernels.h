// The inner loops behind vector.h and attention.h: one table per instruction set.
//
// Every table gives the same bits, because every table is compiled from the same text: vector_canonical.h and
// attention_canonical.h are written over eight float lanes, and each instruction set only says what a lane operation
// is. A further instruction set is one more vector_lanes_*.h and a .cc of a few lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace sluice::kernels {

/// Query vectors that share one pass over the keys and values of a kv head. 16 of them with their accumulators, one
/// tile of converted keys and the scores stay within 32 KiB of L1 at the usual head_dim of 128.
inline constexpr int kQueryTile = 16;

/// Queries of one sequence that read the same kv head: several query heads, several tokens, or both. Which queries
/// share a tile decides speed only.
struct AttentionTile {
  struct Query {
    const float* q;         // [head_dim]
    float* out;             // [head_dim]
    std::int64_t position;  // sees positions 0..position
  };
  Query queries[kQueryTile];
  int count = 0;                             // of queries, >= 1
  const std::byte* const* blocks = nullptr;  // cache blocks of the sequence, as AttentionRow::blocks
  std::int64_t key_offset = 0;               // bytes from the start of a block to the keys of the kv head
  std::int64_t value_offset = 0;             // and to its values
  int head_dim = 0;                          // <= kMaxHeadDim
  DType type = DType::f16;                   // of the cache: f16, bf16 or f32
  float scale = 1.0F;
};

/// All pointers may have any alignment that float (or the 16-bit type) has; n may be any number, 0 included.
struct VectorKernels {
  /// One row: y = weight * (x / sqrt(mean(x^2) + eps)). y may be x.
  void (*rms_norm)(const float* x, int n, const float* weight, float eps, float* y);
  /// y += x.
  void (*add)(const float* x, std::int64_t n, float* y);
  /// y = silu(gate) * up. y may be gate or up.
  void (*swiglu)(const float* gate, const float* up, std::int64_t n, float* y);
  /// y = exp(x), for every float. y may be x.
  void (*exp)(const float* x, std::int64_t n, float* y);
  /// Softmax in place.
  void (*softmax)(float* logits, int n);
  /// Rotates the pairs (x[i], x[i + half]) by the angles whose cosines are cos_sin[i] and sines cos_sin[half + i].
  void (*rotate_halves)(float* x, const float* cos_sin, int half);
  /// Rounds n floats to `type` (f16, bf16: to nearest even, overflow to infinity; f32: a copy).
  void (*encode)(DType type, const float* x, int n, std::byte* y);
  /// Attention of the queries of one tile.
  void (*attention)(const AttentionTile& tile);
};

extern const VectorKernels kVectorScalar;
extern const VectorKernels kVectorAvx2;  // needs AVX2, FMA and F16C

}  // namespace sluice::kernels
