// Attention over a key-value cache stored in blocks of positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/isa.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// Positions per cache block. Key blocks lie at absolute positions (block b holds [b*64, b*64+64)) and are the unit
/// of the canonical softmax, so results do not depend on how many tokens are computed at once.
inline constexpr int kKvBlock = 64;

/// The largest head_dim that attention() takes, because its scratch is on the stack: that of MLA with a latent of 512
/// and 64 rotated dimensions. Whoever reads a config checks it.
inline constexpr int kMaxHeadDim = 576;

/// Shape of the cache of one attention layer. A block is K [kv_heads, kKvBlock, head_dim] then V of the same shape,
/// rows of `type`: f16, bf16, f32, or i8, which is 8-bit codes with an f32 scale per 32 elements (Q8Group).
///
/// With a latent (multi-head latent attention in its absorbed form: one kv head, key = latent | rotated part) there is
/// no V: the value of a position is the first latent_dim elements of its key.
struct KvShape {
  int kv_heads = 0;
  int head_dim = 0;
  DType type = DType::f16;
  int latent_dim = 0;  // 0: no latent; else <= head_dim

  int value_dim() const { return latent_dim > 0 ? latent_dim : head_dim; }
  /// Bytes of the key, or the value, of one position and head.
  std::size_t row_bytes() const;
  std::size_t block_bytes() const;
};

/// Stores key [kv_heads, head_dim] and value [kv_heads, head_dim] of one position, rounded to the cache type, into
/// the block that holds the position. With a latent `value` is not looked at.
void store_kv(const Context& context, const KvShape& shape, std::byte* block, std::int64_t position, const float* key,
              const float* value);

/// What all rows of a layer have in common, apart from the cache.
struct AttentionHeads {
  int heads;  // of queries, a multiple of kv_heads; query head h reads kv head h / (heads / kv_heads)
  float scale;
  int window = 0;                // > 0: a row sees that many positions at most, its own and those before it
  const float* sinks = nullptr;  // [heads]: a logit that takes part in each head's softmax, with no value
};

/// One query row: a token of some sequence in one layer.
struct AttentionRow {
  const float* q;                           // [heads, head_dim], after norm and rope
  float* out;                               // [heads, value_dim]
  const std::byte* const* blocks;           // cache blocks of its sequence and layer, in order of position
  std::int64_t position;                    // sees positions 0..position (its own K and V are stored already)
  const std::uint64_t* selected = nullptr;  // [blocks]: if given, only those of them whose bit is set: position p is
                                            // bit p % 64 of word p / 64. At least one is.
};

/// out = softmax(scale * q k^T) v per head for every row. Blocks of which no row sees a position are not touched (their
/// pointers may be null). Rows that follow each other and share `blocks` share one pass over the keys and values.
///
/// One dispatch; if the rows are too few to keep the team busy, the blocks of a row are shared out, and then a long
/// context takes one dispatch per one or a few thousand positions.
///
/// Canonical (docs/arithmetic.md, attention_canonical.h): per head, softmax and weighted sum within a block, blocks
/// merged in ascending order, the inner dot products in the fixed 8-lane pattern. So a row has the same bits whatever
/// it is computed with, on every instruction set.
void attention(const Context& context, const KvShape& shape, const AttentionHeads& heads,
               std::span<const AttentionRow> rows, Workspace& workspace);

}  // namespace sluice::kernels
