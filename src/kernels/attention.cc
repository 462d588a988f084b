#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Scratch for the blocks of one dispatch when blocks are shared out: it should stay in a cache. A longer context than
/// that takes another dispatch; each has at least kLeastBlocks blocks, which is a millisecond of work.
constexpr std::int64_t kPartialBytes = 1024 * 1024;
constexpr std::int64_t kLeastBlocks = 16;

/// Items of work per thread below which the blocks of a tile are shared out. With fewer, some threads have up to twice
/// as much to do as others; with as many, sharing out costs more (about 5 %, for writing the partial results) than it
/// gains.
constexpr std::int64_t kItemsPerThread = 2;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Bytes from the start of a block to the rows of one kv head.
struct HeadOffsets {
  std::int64_t key, value;
};
HeadOffsets head_offsets(const KvShape& shape, int kv_head) {
  const auto head_bytes = static_cast<std::int64_t>(shape.row_bytes()) * kKvBlock;
  const std::int64_t key = kv_head * head_bytes;
  return {key, shape.latent_dim > 0 ? key : key + shape.kv_heads * head_bytes};
}

/// How the rows and heads are cut into tiles: whole groups of query heads for as many rows as fit, or, if one group
/// is larger than a tile, a part of the group for one row.
class Tiling {
 public:
  Tiling(const KvShape& shape, const AttentionHeads& heads, std::span<const AttentionRow> rows)
      : shape_(shape), heads_(heads), rows_(rows) {
    assert(shape.head_dim >= 1 && shape.head_dim <= kMaxHeadDim && shape.latent_dim <= shape.head_dim);
    assert(shape.kv_heads >= 1 && heads.heads % shape.kv_heads == 0);
  }

  /// Items of work; each is the tiles of some rows and query heads.
  std::int64_t items() const { return ceil_div(static_cast<std::int64_t>(rows_.size()), tile_rows_) * tiles_per_row_; }

  /// The tiles of an item, one for each sequence that its rows are of.
  template <typename Use>
  void for_tiles(std::int64_t item, Use use) const {
    const auto kv_head = static_cast<int>(item % tiles_per_row_ / tiles_per_kv_head_);
    const auto first_head = static_cast<int>(item % tiles_per_kv_head_) * tile_heads_;
    const int head_count = std::min(tile_heads_, group_ - first_head);
    const auto in_tile = rows_.subspan(static_cast<std::size_t>(item / tiles_per_row_ * tile_rows_));

    AttentionTile tile = empty_tile(kv_head);
    for (const AttentionRow& row : in_tile.first(std::min<std::size_t>(in_tile.size(), tile_rows_))) {
      if (tile.count > 0 && row.blocks != tile.blocks) {
        use(tile);
        tile.count = 0;
      }
      tile.blocks = row.blocks;
      for (int i = 0; i < head_count; ++i) tile.queries[tile.count++] = query(row, kv_head * group_ + first_head + i);
    }
    use(tile);
  }

 private:
  AttentionTile empty_tile(int kv_head) const {
    const HeadOffsets offsets = head_offsets(shape_, kv_head);
    AttentionTile tile;
    tile.key_offset = offsets.key;
    tile.value_offset = offsets.value;
    tile.row_bytes = static_cast<std::int64_t>(shape_.row_bytes());
    tile.key_dim = shape_.head_dim;
    tile.value_dim = shape_.value_dim();
    tile.type = shape_.type;
    tile.scale = heads_.scale;
    return tile;
  }

  AttentionTile::Query query(const AttentionRow& row, std::int64_t head) const {
    return {row.q + head * shape_.head_dim,
            row.out + head * shape_.value_dim(),
            heads_.window > 0 ? std::max<std::int64_t>(0, row.position + 1 - heads_.window) : 0,
            row.position,
            row.selected,
            heads_.sinks != nullptr ? heads_.sinks[head] : -std::numeric_limits<float>::infinity()};
  }

  const KvShape& shape_;
  const AttentionHeads& heads_;
  std::span<const AttentionRow> rows_;
  const int group_ = heads_.heads / shape_.kv_heads;
  const int tile_heads_ = std::min(group_, kQueryTile);
  const int tile_rows_ = kQueryTile / tile_heads_;
  const std::int64_t tiles_per_kv_head_ = ceil_div(group_, tile_heads_);
  const std::int64_t tiles_per_row_ = shape_.kv_heads * tiles_per_kv_head_;
};

void attend_whole(const Context& context, const Tiling& tiling) {
  context.team.parallel_for(tiling.items(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) tiling.for_tiles(item, context.isa.vector->attention);
  });
}

/// A tile whose blocks are shared out.
struct SplitTile {
  AttentionTile tile;
  std::int64_t end;  // beyond the last block that a query sees
  float* running;    // [count, partial_floats]
  float* partials;   // [blocks of a dispatch, count, partial_floats]
};

/// Computes some tiles with the blocks of each shared out over the team. Blocks do not depend on each other; whoever
/// merges takes them in order, so the bits are those of a whole tile.
void attend_split(const Context& context, const Tiling& tiling, Workspace& workspace) {
  const Workspace::Mark mark(workspace);
  const VectorKernels& vector = *context.isa.vector;
  std::int64_t tile_count = 0;
  for (std::int64_t item = 0; item < tiling.items(); ++item) {
    tiling.for_tiles(item, [&](const AttentionTile&) { ++tile_count; });
  }
  const auto tiles = workspace.take<SplitTile>(static_cast<std::size_t>(tile_count));
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;  // blocks that any query sees
  std::int64_t block_floats = 0;                                           // of the partial results of one block
  std::size_t next = 0;
  for (std::int64_t item = 0; item < tiling.items(); ++item) {
    tiling.for_tiles(item, [&](const AttentionTile& tile) {
      const int floats = tile.count * partial_floats(tile.value_dim);
      SplitTile& split = tiles[next++] = {tile, 0, workspace.take<float>(static_cast<std::size_t>(floats)).data(), {}};
      for (const auto& query : std::span(tile.queries).first(static_cast<std::size_t>(tile.count))) {
        begin = std::min(begin, query.first / kKvBlock);
        split.end = std::max(split.end, query.position / kKvBlock + 1);
      }
      end = std::max(end, split.end);
      block_floats += floats;
      vector.attention_begin(tile, split.running);
    });
  }
  const auto block_bytes = block_floats * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t at_once = std::min(end - begin, std::max(kLeastBlocks, kPartialBytes / block_bytes));
  for (SplitTile& split : tiles) {
    const std::int64_t floats = split.tile.count * partial_floats(split.tile.value_dim) * at_once;
    split.partials = workspace.take<float>(static_cast<std::size_t>(floats)).data();
  }

  for (std::int64_t first = begin; first < end; first += at_once) {
    const std::int64_t blocks = std::min(at_once, end - first);
    const auto compute = [&](std::int64_t from, std::int64_t to) {
      for (; from < to; ++from) {
        const SplitTile& split = tiles[static_cast<std::size_t>(from / blocks)];
        const std::int64_t i = from % blocks;
        if (first + i >= split.end) continue;
        const std::int64_t at = i * split.tile.count * partial_floats(split.tile.value_dim);
        vector.attention_block(split.tile, first + i, split.partials + at);
      }
    };
    const auto merge = [&](std::int64_t from, std::int64_t to) {
      for (; from < to; ++from) {
        const SplitTile& split = tiles[static_cast<std::size_t>(from)];
        const auto count = static_cast<int>(std::min(blocks, split.end - first));
        if (count > 0) vector.attention_merge(split.tile, first, count, split.partials, split.running);
        if (first + blocks >= end) vector.attention_end(split.tile, split.running);
      }
    };
    const std::array phases{ThreadTeam::Phase{tile_count * blocks, 1, compute},
                            ThreadTeam::Phase{tile_count, 1, merge}};
    context.team.parallel_phases(phases);
  }
}

}  // namespace

std::size_t KvShape::row_bytes() const {
  if (type == DType::i8) return sizeof(Q8Group) * static_cast<std::size_t>(ceil_div(head_dim, kQ8Group));
  return size_of(type) * static_cast<std::size_t>(head_dim);
}

std::size_t KvShape::block_bytes() const {
  return (latent_dim > 0 ? 1 : 2) * static_cast<std::size_t>(kv_heads) * kKvBlock * row_bytes();
}

void store_kv(const Context& context, const KvShape& shape, std::byte* block, std::int64_t position, const float* key,
              const float* value) {
  const auto at = position % kKvBlock * static_cast<std::int64_t>(shape.row_bytes());
  for (int head = 0; head < shape.kv_heads; ++head) {
    const HeadOffsets offsets = head_offsets(shape, head);
    const std::int64_t element = std::int64_t{head} * shape.head_dim;
    context.isa.vector->encode(shape.type, key + element, shape.head_dim, block + offsets.key + at);
    if (shape.latent_dim > 0) continue;
    context.isa.vector->encode(shape.type, value + element, shape.head_dim, block + offsets.value + at);
  }
}

void attention(const Context& context, const KvShape& shape, const AttentionHeads& heads,
               std::span<const AttentionRow> rows, Workspace& workspace) {
  if (rows.empty()) return;
  const Tiling tiling(shape, heads, rows);
  std::int64_t last = 0;
  for (const AttentionRow& row : rows) last = std::max(last, row.position);
  const int threads = context.team.size();
  if (threads > 1 && tiling.items() < kItemsPerThread * threads && last >= 2 * kKvBlock) {
    attend_split(context, tiling, workspace);
  } else {
    attend_whole(context, tiling);
  }
}

}  // namespace sluice::kernels
