// The canonical arithmetic of attention, written once over eight lanes; included after cache_canonical.h.
//
// For one query, with blocks of kKvBlock keys at absolute positions and only the positions that the query sees:
//
//   score_j = scale * dot(q, k_j)                lane i of the dot adds up elements i, i + 8, ... by fma
//   m_b = max_j score_j                          over the block
//   p_j = exp(score_j - m_b)
//   l_b = sum_j p_j                              lane i adds up positions i, i + 8, ...
//   a_b = sum_j p_j v_j                          one chain of fma per element, positions ascending, from zero
//
// and over the blocks of which it sees anything, in ascending order, starting from m = sink (-infinity if the head has
// none), l = 1, a = 0:
//
//   m' = max(m, m_b), c = exp(m - m'), d = exp(m_b - m')
//   l = fma(l_b, d, l * c),  a = fma(a_b, d, a * c),  m = m'
//
// and the result is a / l. A block does not depend on the blocks before it, so blocks may be computed in any order or
// at the same time; only the merging is a chain.
#pragma once

#include "kernels/attention.h"
#include "kernels/cache_canonical.h"

namespace sluice::kernels {
namespace {

using Query = AttentionTile::Query;

// What one thread needs for a tile, on its stack: 131 KiB, of which head_dim 128 touches a quarter.
// Vectors are padded with zeros to a multiple of eight floats and lie as far apart, none across two cache lines.
struct alignas(64) AttentionScratch {
  float q[kQueryTile * kMaxHeadDim];
  float block[kQueryTile * partial_floats(kMaxHeadDim)];
  float running[kQueryTile * partial_floats(kMaxHeadDim)];
  float rows[kLanes * kMaxHeadDim];    // eight keys or values, as f32 (read_rows)
  float scores[kQueryTile][kKvBlock];  // then p
};

// A query's share of the softmax over some positions, in memory: a, m and l, in partial_floats floats.
struct Partial {
  float* sum;
  int width;  // of the sum, a multiple of eight
  float& largest() const { return sum[width]; }
  float& weight() const { return sum[width + 1]; }
};

inline int padded(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

inline Partial partial(float* partials, const AttentionTile& tile, int64_t index) {
  const int width = padded(tile.value_dim);
  return {partials + index * (width + kLanes), width};
}

// Bit j: the query sees position j of the block.
inline uint64_t visible(const Query& query, int64_t block) {
  const int64_t begin = query.first - block * kKvBlock;
  const int64_t end = query.position + 1 - block * kKvBlock;
  if (end <= 0 || begin >= kKvBlock) return 0;
  uint64_t bits = ~uint64_t{0};
  if (end < kKvBlock) bits >>= kKvBlock - end;
  if (begin > 0) bits = bits >> begin << begin;
  return query.selected == nullptr ? bits : bits & query.selected[block];
}

// Of the eight positions from `at` on.
inline unsigned eight_bits(uint64_t bits, int at) { return static_cast<unsigned>(bits >> at) & 0xFFU; }

// Eight consecutive rows of the cache, of floats.
struct Rows {
  const std::byte* at[kLanes];
  DType type;
};

// Rows outside `bits` may not be stored yet: a row of `bits` stands in for each of them, and is never looked at. Rows
// of floats that fill vectors are read where they lie: a conversion for every four queries fits in beside their
// products, a pass of its own would not. Others are decoded into scratch [kLanes, padded(dim)].
inline Rows read_rows(DType type, const std::byte* first, int64_t row_bytes, int dim, unsigned bits, float* scratch) {
  Rows rows{{}, type};
  const int substitute = __builtin_ctz(bits);
  for (int j = 0; j < kLanes; ++j) rows.at[j] = first + ((bits >> j & 1U) != 0 ? j : substitute) * row_bytes;
  if (type != DType::i8 && dim % kLanes == 0) return rows;
  for (const std::byte*& row : rows.at) {
    decode_row(type, row, dim, scratch);
    row = reinterpret_cast<const std::byte*>(scratch);
    scratch += padded(dim);
  }
  rows.type = DType::f32;
  return rows;
}

// scores[j] = scale * dot(q, row j) for all eight rows and for `Queries` queries, q and scores of which lie `width`
// and kKvBlock floats apart. Every row that is loaded meets all of them; their accumulators take eight registers.
template <int Queries, DType kType>
inline void score_rows(const float* q, const Rows& rows, int width, float scale, float* scores) {
  constexpr int kRows = kLanes / Queries;  // of a pass
  F8 dot[Queries][kLanes];
  for (int first = 0; first < kLanes; first += kRows) {
    F8 sums[Queries][kRows];
    for (auto& of_query : sums) {
      for (F8& lanes : of_query) lanes = splat(0.0F);
    }
    for (int i = 0; i < width; i += kLanes) {
      F8 of_rows[kRows];
      for (int j = 0; j < kRows; ++j) {
        F8 row = load_cached<kType>(rows.at[first + j], i);
        keep(row);
        of_rows[j] = row;
      }
      for (int n = 0; n < Queries; ++n) {
        F8 query = load(q + n * width + i);
        keep(query);
        for (int j = 0; j < kRows; ++j) sums[n][j] = fma(query, of_rows[j], sums[n][j]);
      }
    }
    for (int n = 0; n < Queries; ++n) {
      for (int j = 0; j < kRows; ++j) dot[n][first + j] = sums[n][j];
    }
  }
  for (int n = 0; n < Queries; ++n) store(scores + n * kKvBlock, mul(sum_each(dot[n]), splat(scale)));
}

// m_b: the largest score of the positions in `bits`, of which there are some; those of all others become -infinity.
inline float largest_score(float* scores, uint64_t bits) {
  F8 largest = splat(-kInfinity);
  for (int at = 0; at < kKvBlock; at += kLanes) {
    const unsigned seen = eight_bits(bits, at);
    for (int j = 0; seen != 0xFFU && j < kLanes; ++j) {
      if ((seen >> j & 1U) == 0) scores[at + j] = -kInfinity;  // whose exp is 0
    }
    largest = max(largest, load(scores + at));
  }
  return max_lane(largest);
}

// Turns the scores into p; gives l_b.
inline float exponentiate(float* scores, uint64_t bits, float largest) {
  const F8 shift = splat(largest);
  F8 sums = splat(0.0F);
#pragma GCC unroll 1  // or the constants of exp do not stay in registers
  for (int at = 0; at < kKvBlock; at += kLanes) {
    if (eight_bits(bits, at) == 0) continue;  // would add zeros
    const F8 p = exp_lanes(sub(load(scores + at), shift));
    store(scores + at, p);
    sums = add(sums, p);
  }
  return sum(sums);
}

// sum += p[j] * row j for the rows j in `bits`, in that order, and for `Queries` queries, p and sum of which lie
// kKvBlock and `stride` floats apart; `Groups` vectors of each, from element i on. What the other rows hold must not
// matter, NaN included, so they are left out and not multiplied by zero. Eight registers hide the latency of fma; gcc
// keeps them in memory unless the loops over them are unrolled early, and the one around them is not.
template <int Queries, int Groups, DType kType>
inline void add_weighted_groups(const float* p, const Rows& rows, unsigned bits, int i, float* sum, int stride) {
  F8 sums[Queries][Groups];
#pragma GCC unroll 8
  for (int n = 0; n < Queries; ++n) {
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) sums[n][g] = load(sum + n * stride + i + g * kLanes);
  }
#pragma GCC unroll 1
  for (int j = 0; j < kLanes; ++j) {
    if ((bits >> j & 1U) == 0) continue;
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
      F8 row = load_cached<kType>(rows.at[j], i + g * kLanes);
      keep(row);
#pragma GCC unroll 8
      for (int n = 0; n < Queries; ++n) sums[n][g] = fma(splat(p[n * kKvBlock + j]), row, sums[n][g]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < Queries; ++n) {
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) store(sum + n * stride + i + g * kLanes, sums[n][g]);
  }
}

template <int Queries, DType kType>
inline void add_weighted_rows(const float* p, const Rows& rows, unsigned bits, int width, float* sum, int stride) {
  constexpr int kGroups = 8 / Queries;
  int i = 0;
  for (; i + kGroups * kLanes <= width; i += kGroups * kLanes) {
    add_weighted_groups<Queries, kGroups, kType>(p, rows, bits, i, sum, stride);
  }
  for (; i < width; i += kLanes) add_weighted_groups<Queries, 1, kType>(p, rows, bits, i, sum, stride);
}

template <int N>
struct QueryCount {
  constexpr int operator()() const { return N; }
};

// Calls use(i, n) for every query i that sees any of the eight positions from `at` on: alone, or for four or two
// neighbours at once if they see the same of them; n() is how many.
template <typename Use>
inline void for_queries(const AttentionTile& tile, const uint64_t* bits, int at, Use use) {
  for (int i = 0; i < tile.count;) {
    const unsigned mine = eight_bits(bits[i], at);
    int alike = 1;
    while (alike < 4 && i + alike < tile.count && eight_bits(bits[i + alike], at) == mine) ++alike;
    if (mine == 0) {
      i += alike;
    } else if (alike == 4) {
      use(i, QueryCount<4>());
      i += 4;
    } else if (alike >= 2) {
      use(i, QueryCount<2>());
      i += 2;
    } else {
      use(i, QueryCount<1>());
      i += 1;
    }
  }
}

// The keys or the values of a block: rows of `dim` elements, of which queries see those in `bits`. If they see none,
// there may be no block.
struct BlockRows {
  const std::byte* block;
  int64_t offset;
  int dim;
  uint64_t bits;
};

// Into the second cache, since it is the rows in use and the queries that the first one should hold.
inline void prefetch_rows(const AttentionTile& tile, const BlockRows& of, int at) {
  for (int j = at; j < at + kLanes; ++j) {
    if ((of.bits >> j & 1U) == 0) continue;
    const std::byte* row = of.block + of.offset + j * tile.row_bytes;
    for (int64_t line = 0; line < tile.row_bytes; line += 64) __builtin_prefetch(row + line, 0, 2);
  }
}

// Calls use(at, rows, type) for every eight positions of which a query sees any. Meanwhile `ahead`, which is read after
// that, is fetched.
template <typename Use>
inline void for_rows(const AttentionTile& tile, const BlockRows& of, const BlockRows& ahead, float* scratch, Use use) {
  for (int at = 0; at < kKvBlock; at += kLanes) {
    prefetch_rows(tile, ahead, at);
    const unsigned seen = eight_bits(of.bits, at);
    if (seen == 0) continue;
    const std::byte* first = of.block + of.offset + at * tile.row_bytes;
    const Rows rows = read_rows(tile.type, first, tile.row_bytes, of.dim, seen, scratch);
    with_float_type(rows.type, [&](auto type) { use(at, rows, type); });
  }
}

inline void load_queries(const AttentionTile& tile, AttentionScratch& s) {
  for (int i = 0; i < tile.count; ++i) {
    const auto* q = reinterpret_cast<const std::byte*>(tile.queries[i].q);
    decode_row(DType::f32, q, tile.key_dim, s.q + i * padded(tile.key_dim));
  }
}

// One block, for all queries of the tile that see any of it; partials [tile.count].
inline void compute_block(const AttentionTile& tile, int64_t index, AttentionScratch& s, float* partials) {
  const int key_width = padded(tile.key_dim);
  uint64_t bits[kQueryTile];
  uint64_t any = 0;
  uint64_t any_next = 0;
  for (int i = 0; i < tile.count; ++i) {
    any |= bits[i] = visible(tile.queries[i], index);
    any_next |= visible(tile.queries[i], index + 1);
  }
  const BlockRows keys{tile.blocks[index], tile.key_offset, tile.key_dim, any};
  const BlockRows values{keys.block, tile.value_offset, tile.value_dim, any};
  const BlockRows next{any_next != 0 ? tile.blocks[index + 1] : nullptr, tile.key_offset, tile.key_dim, any_next};

  for_rows(tile, keys, values, s.rows, [&](int at, const Rows& rows, auto type) {
    for_queries(tile, bits, at, [&](int i, auto queries) {
      score_rows<queries(), type()>(s.q + i * key_width, rows, key_width, tile.scale, s.scores[i] + at);
    });
  });
  // Apart from the exponentials, so that those of one query do not wait for the largest score of the next.
  for (int i = 0; i < tile.count; ++i) {
    if (bits[i] != 0) partial(partials, tile, i).largest() = largest_score(s.scores[i], bits[i]);
  }
  for (int i = 0; i < tile.count; ++i) {
    if (bits[i] == 0) continue;
    const Partial result = partial(partials, tile, i);
    result.weight() = exponentiate(s.scores[i], bits[i], result.largest());
    for (int j = 0; j < result.width; j += kLanes) store(result.sum + j, splat(0.0F));
  }
  for_rows(tile, values, next, s.rows, [&](int at, const Rows& rows, auto type) {
    for_queries(tile, bits, at, [&](int i, auto queries) {
      const Partial sums = partial(partials, tile, i);
      add_weighted_rows<queries(), type()>(s.scores[i] + at, rows, eight_bits(bits[i], at), sums.width, sums.sum,
                                           sums.width + kLanes);
    });
  });
}

inline void merge_partial(Partial block, Partial running) {
  const float m = block.largest() > running.largest() ? block.largest() : running.largest();
  const F8 c = exp_lanes(splat(running.largest() - m));
  const F8 d = exp_lanes(splat(block.largest() - m));
  float merged[kLanes];
  store(merged, fma(splat(block.weight()), d, mul(splat(running.weight()), c)));
  running.weight() = merged[0];
  running.largest() = m;
  for (int i = 0; i < running.width; i += kLanes) {
    store(running.sum + i, fma(load(block.sum + i), d, mul(load(running.sum + i), c)));
  }
}

void attention_block(const AttentionTile& tile, int64_t block, float* partials) {
  AttentionScratch s;
  load_queries(tile, s);
  compute_block(tile, block, s, partials);
}

void attention_begin(const AttentionTile& tile, float* running) {
  for (int i = 0; i < tile.count; ++i) {
    const Partial start = partial(running, tile, i);
    start.largest() = tile.queries[i].sink;
    start.weight() = 1.0F;
    for (int j = 0; j < start.width; j += kLanes) store(start.sum + j, splat(0.0F));
  }
}

void attention_merge(const AttentionTile& tile, int64_t first, int count, const float* partials, float* running) {
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < tile.count; ++j) {
      if (visible(tile.queries[j], first + i) == 0) continue;
      const Partial block = partial(const_cast<float*>(partials), tile, int64_t{i} * tile.count + j);
      merge_partial(block, partial(running, tile, j));
    }
  }
}

void attention_end(const AttentionTile& tile, const float* running) {
  for (int i = 0; i < tile.count; ++i) {
    const Partial total = partial(const_cast<float*>(running), tile, i);
    const F8 weight = splat(total.weight());
    map_row(total.sum, tile.value_dim, tile.queries[i].out, [=](F8 a) { return div(a, weight); });
  }
}

void attention_tile(const AttentionTile& tile) {
  AttentionScratch s;
  load_queries(tile, s);
  int64_t begin = tile.queries[0].first;
  int64_t end = 0;
  for (int i = 0; i < tile.count; ++i) {
    begin = tile.queries[i].first < begin ? tile.queries[i].first : begin;
    end = tile.queries[i].position >= end ? tile.queries[i].position + 1 : end;
  }
  attention_begin(tile, s.running);
  for (int64_t block = begin / kKvBlock; block * kKvBlock < end; ++block) {
    bool seen = false;
    for (int i = 0; i < tile.count; ++i) seen = seen || visible(tile.queries[i], block) != 0;
    if (!seen) continue;
    compute_block(tile, block, s, s.block);
    attention_merge(tile, block, 1, s.block, s.running);
  }
  attention_end(tile, s.running);
}

}  // namespace
}  // namespace sluice::kernels
