// Scores of sparse attention's index, written once over eight lanes; included after attention_canonical.h.
//
//   score_j = sum_h weights_h * max(0, dot(q_h, k_j))
//
// where lane i of the dot adds up elements i, i + 8, ... by fma, and the sum is one chain of fma, heads ascending. A
// dot that is NaN stays NaN, as in the reference.
#pragma once

#include "kernels/attention_canonical.h"

namespace sluice::kernels {
namespace {

void index_block(const IndexBlock& block) {
  constexpr int kTogether = 4;  // heads that share one pass over eight keys
  float keys[kLanes * kMaxHeadDim];
  float dots[kTogether * kKvBlock];  // score_rows writes to every kKvBlock-th eight
  const int width = padded(block.head_dim);
  for (int at = 0; at < block.count; at += kLanes) {
    Rows rows{{}, DType::f32};
    for (int j = 0; j < kLanes; ++j) {
      // Keys beyond the last position may not be stored yet; the last one stands in for them.
      const int row = at + j < block.count ? at + j : block.count - 1;
      decode_row(block.type, block.keys + row * block.row_bytes, block.head_dim, keys + j * width);
      rows.at[j] = reinterpret_cast<const std::byte*>(keys + j * width);
    }
    F8 scores = splat(0.0F);
    const auto add_heads = [&](int first, int count) {
      for (int n = 0; n < count; ++n) {
        const F8 dot = max(splat(0.0F), load(dots + n * kKvBlock));  // of a NaN the second operand
        scores = fma(splat(block.weights[first + n]), dot, scores);
      }
    };
    int head = 0;
    for (; head + kTogether <= block.heads; head += kTogether) {
      score_rows<kTogether, DType::f32>(block.q + head * width, rows, width, 1.0F, dots);
      add_heads(head, kTogether);
    }
    for (; head < block.heads; ++head) {
      score_rows<1, DType::f32>(block.q + head * width, rows, width, 1.0F, dots);
      add_heads(head, 1);
    }
    store(block.scores + at, scores);
  }
}

}  // namespace
}  // namespace sluice::kernels
