#include "kernels/sparse_index.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Sets the bits of the `top_k` best of scores[0..count), using `order` [count] as scratch.
void keep_best(std::span<const float> scores, int top_k, std::span<int> order, std::uint64_t* selected) {
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int a, int b) {
    const float x = scores[static_cast<std::size_t>(a)];
    const float y = scores[static_cast<std::size_t>(b)];
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) == std::isnan(y) ? a > b : std::isnan(y);
    return x != y ? x > y : a > b;
  };
  std::nth_element(order.begin(), order.begin() + top_k, order.end(), better);
  std::fill_n(selected, (scores.size() + 63) / 64, std::uint64_t{0});
  for (const int position : order.first(static_cast<std::size_t>(top_k))) {
    selected[position / 64] |= std::uint64_t{1} << (position % 64);
  }
}

/// Bits 0..position.
void keep_all(std::int64_t position, std::uint64_t* selected) {
  std::fill_n(selected, position / 64, ~std::uint64_t{0});
  selected[position / 64] = ~std::uint64_t{0} >> (63 - position % 64);
}

}  // namespace

void select_positions(const Context& context, const KvShape& shape, int heads, int top_k,
                      std::span<const IndexRow> rows, Workspace& workspace) {
  assert(shape.kv_heads == 1 && shape.latent_dim == shape.head_dim && top_k > 0);
  const auto row_bytes = static_cast<std::int64_t>(shape.row_bytes());
  const auto width = static_cast<std::size_t>((shape.head_dim + 7) / 8 * 8);
  for (std::size_t first = 0; first < rows.size();) {
    if (rows[first].position < top_k) {
      keep_all(rows[first].position, rows[first].selected);
      ++first;
      continue;
    }
    // As many rows together as the scratch holds, all of them cut.
    const Workspace::Mark mark(workspace);
    std::size_t end = first;
    std::int64_t last = 0;  // position
    for (; end < rows.size() && rows[end].position >= top_k; ++end) {
      const std::int64_t furthest = std::max(last, rows[end].position);
      const std::size_t bytes =
          (end - first + 1) * static_cast<std::size_t>(furthest + kKvBlock) * (sizeof(float) + sizeof(int));
      if (end > first && bytes > kIndexScratchBytes) break;
      last = furthest;
    }
    const std::span<const IndexRow> group = rows.subspan(first, end - first);
    const std::int64_t blocks = last / kKvBlock + 1;
    const auto stride = static_cast<std::size_t>(blocks * kKvBlock);
    const std::span<float> scores = workspace.take<float>(group.size() * stride);
    const std::span<int> order = workspace.take<int>(group.size() * stride);
    const std::span<float> q = workspace.take<float>(group.size() * static_cast<std::size_t>(heads) * width);
    const auto head_dim = static_cast<std::size_t>(shape.head_dim);
    std::fill(q.begin(), q.end(), 0.0F);
    for (std::size_t i = 0; i < group.size() * static_cast<std::size_t>(heads); ++i) {
      const std::size_t row = i / static_cast<std::size_t>(heads);
      const std::size_t head = i % static_cast<std::size_t>(heads);
      std::copy_n(group[row].q + head * head_dim, head_dim, &q[i * width]);
    }
    const auto score = [&](std::int64_t from, std::int64_t to) {
      for (; from < to; ++from) {
        const auto i = static_cast<std::size_t>(from / blocks);
        const std::int64_t b = from % blocks;
        const IndexRow& row = group[i];
        if (b * kKvBlock > row.position) continue;
        context.isa.vector->index_block(
            {.q = &q[i * static_cast<std::size_t>(heads) * width],
             .weights = row.weights,
             .heads = heads,
             .head_dim = shape.head_dim,
             .count = static_cast<int>(std::min<std::int64_t>(kKvBlock, row.position + 1 - b * kKvBlock)),
             .keys = row.blocks[b],
             .row_bytes = row_bytes,
             .type = shape.type,
             .scores = &scores[i * stride + static_cast<std::size_t>(b * kKvBlock)]});
      }
    };
    const auto choose = [&](std::int64_t from, std::int64_t to) {
      for (; from < to; ++from) {
        const auto i = static_cast<std::size_t>(from);
        const auto count = static_cast<std::size_t>(group[i].position + 1);
        keep_best(scores.subspan(i * stride, count), top_k, order.subspan(i * stride, count), group[i].selected);
      }
    };
    const auto count = static_cast<std::int64_t>(group.size());
    const ThreadTeam::Phase phases[] = {{count * blocks, 1, score}, {count, 1, choose}};
    context.team.parallel_phases(phases);
    first = end;
  }
}

}  // namespace sluice::kernels
