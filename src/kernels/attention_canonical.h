// The canonical arithmetic of attention, written once over eight lanes; included after vector_canonical.h.
//
// For one query, with blocks of kKvBlock keys at absolute positions and only the positions that the query sees:
//
//   score_j = scale * dot(q, k_j)                lane i of the dot adds up elements i, i + 8, ... by fma
//   m_b = max_j score_j                          over the block
//   p_j = exp(score_j - m_b)
//   l_b = sum_j p_j                              lane i adds up positions i, i + 8, ...
//   a_b = sum_j p_j v_j                          one chain of fma per element, positions ascending, from zero
//
// and over the blocks, in ascending order, starting from m = -infinity, l = 0, a = 0:
//
//   m' = max(m, m_b), c = exp(m - m'), d = exp(m_b - m')
//   l = fma(l_b, d, l * c),  a = fma(a_b, d, a * c),  m = m'
//
// and the result is a / l. A block does not depend on the blocks before it, so blocks may be computed in any order or
// at the same time; only the merging is a chain.
#pragma once

#include "kernels/attention.h"
#include "kernels/vector_canonical.h"

namespace sluice::kernels {
namespace {

// What one thread needs for a tile, on its stack: 117 KiB, of which head_dim 128 touches a quarter.
// Vectors are padded with zeros to `width` floats, a multiple of eight, and lie `width` apart.
struct AttentionScratch {
  float q[kQueryTile * kMaxHeadDim];
  float block_sum[kQueryTile * kMaxHeadDim];  // a_b
  float total[kQueryTile * kMaxHeadDim];      // a
  float rows[kLanes * kMaxHeadDim];           // eight keys or values, as f32
  float scores[kQueryTile][kKvBlock];         // then p
  float largest[kQueryTile];                  // m
  float weight[kQueryTile];                   // l
};

// How many positions of the `length` starting at `first` the query sees.
inline int visible(const AttentionTile::Query& query, int64_t first, int length) {
  const int64_t count = query.position + 1 - first;
  return count < 0 ? 0 : count < length ? static_cast<int>(count) : length;
}

// scores[j] = scale * dot(q, row j) for all eight rows.
inline void score_rows(const float* q, const float* rows, int width, float scale, float* scores) {
  F8 dot[kLanes];
  for (F8& lanes : dot) lanes = splat(0.0F);
  for (int i = 0; i < width; i += kLanes) {
    const F8 x = load(q + i);
    for (int j = 0; j < kLanes; ++j) dot[j] = fma(x, load(rows + j * width + i), dot[j]);
  }
  store(scores, mul(sum_each(dot), splat(scale)));
}

// Turns scores[0, count) into p, and returns m_b and l_b.
struct BlockWeights {
  float largest, sum;
};
inline BlockWeights exponentiate(float* scores, int count) {
  for (int j = count; j % kLanes != 0; ++j) scores[j] = -kInfinity;  // whose exp is 0
  F8 largest = splat(-kInfinity);
  for (int j = 0; j < count; j += kLanes) largest = max(largest, load(scores + j));
  const float m = max_lane(largest);
  F8 sums = splat(0.0F);
  for (int j = 0; j < count; j += kLanes) {
    const F8 p = exp_lanes(sub(load(scores + j), splat(m)));
    store(scores + j, p);
    sums = add(sums, p);
  }
  return {m, sum(sums)};
}

// sum += p[j] * row j for j < count, in that order. `Groups` registers of accumulators hide the latency of fma.
template <int Groups>
inline void add_weighted_rows(const float* p, const float* rows, int count, int width, float* sum) {
  F8 accumulators[Groups];
  for (int g = 0; g < Groups; ++g) accumulators[g] = load(sum + g * kLanes);
  for (int j = 0; j < count; ++j) {
    const F8 factor = splat(p[j]);
    for (int g = 0; g < Groups; ++g) {
      accumulators[g] = fma(factor, load(rows + j * width + g * kLanes), accumulators[g]);
    }
  }
  for (int g = 0; g < Groups; ++g) store(sum + g * kLanes, accumulators[g]);
}

inline void add_weighted_rows(const float* p, const float* rows, int count, int width, float* sum) {
  int i = 0;
  for (; i + 8 * kLanes <= width; i += 8 * kLanes) add_weighted_rows<8>(p, rows + i, count, width, sum + i);
  for (; i < width; i += kLanes) add_weighted_rows<1>(p, rows + i, count, width, sum + i);
}

// Merges a block into the running maximum, weight and total of a query.
inline void merge_block(BlockWeights block, const float* block_sum, int width, float& largest, float& weight,
                        float* total) {
  const float m = block.largest > largest ? block.largest : largest;
  const F8 c = exp_lanes(splat(largest - m));
  const F8 d = exp_lanes(splat(block.largest - m));
  float merged[kLanes];
  store(merged, fma(splat(block.sum), d, mul(splat(weight), c)));
  weight = merged[0];
  largest = m;
  for (int i = 0; i < width; i += kLanes) store(total + i, fma(load(block_sum + i), d, mul(load(total + i), c)));
}

// Attention of one tile of queries, as AttentionTile describes it. Each tile of eight keys or values is converted to
// f32 once and used by all queries.
void attention_tile(const AttentionTile& tile) {
  AttentionScratch s;
  const int width = (tile.head_dim + kLanes - 1) / kLanes * kLanes;
  const int64_t row_bytes = int64_t{tile.head_dim} * (tile.type == DType::f32 ? 4 : 2);
  int64_t end = 0;  // beyond the last position that any query sees
  for (int i = 0; i < tile.count; ++i) {
    const AttentionTile::Query& query = tile.queries[i];
    decode_row(DType::f32, reinterpret_cast<const std::byte*>(query.q), tile.head_dim, s.q + i * width);
    for (int j = 0; j < width; j += kLanes) store(s.total + i * width + j, splat(0.0F));
    s.largest[i] = -kInfinity;
    s.weight[i] = 0.0F;
    end = query.position + 1 > end ? query.position + 1 : end;
  }

  for (int64_t first = 0; first < end; first += kKvBlock) {
    const std::byte* block = tile.blocks[first / kKvBlock];
    const int length = end - first < kKvBlock ? static_cast<int>(end - first) : kKvBlock;

    for (int at = 0; at < length; at += kLanes) {
      const int last = length - 1 - at;  // rows beyond it are not stored yet: it is repeated, and never looked at
      for (int j = 0; j < kLanes; ++j) {
        const std::byte* key = block + tile.key_offset + (at + (j < last ? j : last)) * row_bytes;
        decode_row(tile.type, key, tile.head_dim, s.rows + j * width);
      }
      for (int i = 0; i < tile.count; ++i) {
        if (visible(tile.queries[i], first + at, kLanes) == 0) continue;
        score_rows(s.q + i * width, s.rows, width, tile.scale, s.scores[i] + at);
      }
    }

    BlockWeights weights[kQueryTile];
    for (int i = 0; i < tile.count; ++i) {
      const int count = visible(tile.queries[i], first, kKvBlock);
      if (count > 0) weights[i] = exponentiate(s.scores[i], count);
      for (int j = 0; j < width; j += kLanes) store(s.block_sum + i * width + j, splat(0.0F));
    }

    for (int at = 0; at < length; at += kLanes) {
      for (int j = 0; j < kLanes && at + j < length; ++j) {
        decode_row(tile.type, block + tile.value_offset + (at + j) * row_bytes, tile.head_dim, s.rows + j * width);
      }
      for (int i = 0; i < tile.count; ++i) {
        const int count = visible(tile.queries[i], first + at, kLanes);
        add_weighted_rows(s.scores[i] + at, s.rows, count, width, s.block_sum + i * width);
      }
    }

    for (int i = 0; i < tile.count; ++i) {
      if (visible(tile.queries[i], first, kKvBlock) == 0) continue;
      merge_block(weights[i], s.block_sum + i * width, width, s.largest[i], s.weight[i], s.total + i * width);
    }
  }

  for (int i = 0; i < tile.count; ++i) {
    const float* total = s.total + i * width;
    float* out = tile.queries[i].out;
    const F8 weight = splat(s.weight[i]);
    for_groups(
        tile.head_dim, [=](int64_t j) { store(out + j, div(load(total + j), weight)); },
        [=](int64_t j, int count) { store_part(out + j, div(load_part(total + j, count), weight), count); });
  }
}

}  // namespace
}  // namespace sluice::kernels
