#include "kernels/attention.h"

#include <algorithm>
#include <cassert>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Bytes from the start of a block to the rows of one kv head.
struct HeadOffsets {
  std::int64_t key, value;
};
HeadOffsets head_offsets(const KvShape& shape, int kv_head) {
  const auto head_bytes = static_cast<std::int64_t>(size_of(shape.type)) * kKvBlock * shape.head_dim;
  return {kv_head * head_bytes, (shape.kv_heads + kv_head) * head_bytes};
}

}  // namespace

void store_kv(const Context& context, const KvShape& shape, std::byte* block, std::int64_t position, const float* key,
              const float* value) {
  const std::int64_t row_bytes = static_cast<std::int64_t>(size_of(shape.type)) * shape.head_dim;
  const std::int64_t at = position % kKvBlock * row_bytes;
  for (int head = 0; head < shape.kv_heads; ++head) {
    const HeadOffsets offsets = head_offsets(shape, head);
    const std::int64_t element = std::int64_t{head} * shape.head_dim;
    context.isa.vector->encode(shape.type, key + element, shape.head_dim, block + offsets.key + at);
    context.isa.vector->encode(shape.type, value + element, shape.head_dim, block + offsets.value + at);
  }
}

void attention(const Context& context, const KvShape& shape, int heads, float scale,
               std::span<const AttentionRow> rows) {
  assert(shape.head_dim >= 1 && shape.head_dim <= kMaxHeadDim);
  assert(shape.kv_heads >= 1 && heads % shape.kv_heads == 0);
  assert(shape.type == DType::f16 || shape.type == DType::bf16 || shape.type == DType::f32);

  // A tile takes whole groups of query heads for as many rows as fit, or, if one group is larger than a tile, a part
  // of the group for one row.
  const int group = heads / shape.kv_heads;
  const int tile_heads = std::min(group, kQueryTile);
  const int tile_rows = kQueryTile / tile_heads;
  const std::int64_t tiles_per_kv_head = ceil_div(group, tile_heads);
  const std::int64_t tiles_per_row = shape.kv_heads * tiles_per_kv_head;
  const std::int64_t row_tiles = ceil_div(static_cast<std::int64_t>(rows.size()), tile_rows);

  const auto compute = [&](std::int64_t item) {
    const auto kv_head = static_cast<int>(item % tiles_per_row / tiles_per_kv_head);
    const auto first_head = static_cast<int>(item % tiles_per_kv_head) * tile_heads;
    const int head_count = std::min(tile_heads, group - first_head);
    const auto in_tile = rows.subspan(static_cast<std::size_t>(item / tiles_per_row * tile_rows));

    const HeadOffsets offsets = head_offsets(shape, kv_head);
    AttentionTile tile;
    tile.key_offset = offsets.key;
    tile.value_offset = offsets.value;
    tile.head_dim = shape.head_dim;
    tile.type = shape.type;
    tile.scale = scale;
    const auto flush = [&] {
      if (tile.count > 0) context.isa.vector->attention(tile);
      tile.count = 0;
    };
    for (const AttentionRow& row : in_tile.first(std::min<std::size_t>(in_tile.size(), tile_rows))) {
      if (row.blocks != tile.blocks) flush();  // of another sequence
      tile.blocks = row.blocks;
      for (int i = 0; i < head_count; ++i) {
        const std::int64_t element = (std::int64_t{kv_head} * group + first_head + i) * shape.head_dim;
        tile.queries[tile.count++] = {row.q + element, row.out + element, row.position};
      }
    }
    flush();
  };
  context.team.parallel_for(row_tiles * tiles_per_row, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) compute(item);
  });
}

}  // namespace sluice::kernels
