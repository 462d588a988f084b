// Attention over a key-value cache stored in blocks of positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/isa.h"

namespace sluice::kernels {

/// Positions per cache block. Key blocks lie at absolute positions (block b holds [b*64, b*64+64)) and are the unit
/// of the canonical softmax, so results do not depend on how many tokens are computed at once.
inline constexpr int kKvBlock = 64;

/// The largest head_dim that attention() takes, because its scratch is on the stack. Whoever reads a config checks it.
inline constexpr int kMaxHeadDim = 512;

/// Shape of the cache of one attention layer. A block is K [kv_heads, kKvBlock, head_dim] then V of the same shape,
/// elements of `type` (f16, bf16 or f32).
struct KvShape {
  int kv_heads = 0;
  int head_dim = 0;
  DType type = DType::f16;

  std::size_t block_bytes() const {
    return 2 * size_of(type) * static_cast<std::size_t>(kv_heads) * kKvBlock * static_cast<std::size_t>(head_dim);
  }
};

/// Stores key [kv_heads, head_dim] and value [kv_heads, head_dim] of one position, rounded to the cache type (to
/// nearest even), into the block that holds the position.
void store_kv(const Context& context, const KvShape& shape, std::byte* block, std::int64_t position, const float* key,
              const float* value);

/// One query row: a token of some sequence in one layer.
struct AttentionRow {
  const float* q;                  // [heads, head_dim], after norm and rope
  float* out;                      // [heads, head_dim]
  const std::byte* const* blocks;  // cache blocks of its sequence and layer, in order of position
  std::int64_t position;           // sees positions 0..position (its own K and V are stored already)
};

/// out = softmax(scale * q k^T) v per head for every row; query head h reads kv head h / (heads / kv_heads), and
/// heads is a multiple of kv_heads. One dispatch; rows that follow each other and share `blocks` share one pass over
/// the keys and values. Allocates nothing.
///
/// Canonical (docs/arithmetic.md, attention_canonical.h): per head, softmax and weighted sum within a block, blocks
/// merged in ascending order, the inner dot products in the fixed 8-lane pattern. So a row has the same bits whatever
/// it is computed with, on every instruction set.
void attention(const Context& context, const KvShape& shape, int heads, float scale,
               std::span<const AttentionRow> rows);

}  // namespace sluice::kernels
