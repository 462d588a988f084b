// Chooses the positions that sparse attention attends to, by scores of a small attention of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/isa.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// One query row: a token of some sequence in one layer.
struct IndexRow {
  const float* q;                  // [heads, head_dim]
  const float* weights;            // [heads]
  const std::byte* const* blocks;  // of the keys: one kv head, as AttentionRow::blocks
  std::int64_t position;           // sees positions 0..position
  std::uint64_t* selected;         // [position / 64 + 1] words to fill, as AttentionRow::selected
};

/// Memory for scores that select_positions takes from the workspace, at most, unless one row needs more.
inline constexpr std::size_t kIndexScratchBytes = std::size_t{16} << 20;

/// Per row, selects the `top_k` positions of largest
///
///   score_j = sum_h weights_h * max(0, dot(q_h, k_j))
///
/// the later ones on ties; all of them if there are no more than that. (Models also scale the scores, which does not
/// change their order.) A NaN in a key, or in the query, makes the score NaN, and such positions come last, as in the
/// reference. The dot is in the fixed 8-lane pattern and the sum one chain of fma over the heads, so a row's choice
/// does not depend on what it is computed with. shape: one kv head whose rows are keys only (latent_dim = head_dim).
void select_positions(const Context& context, const KvShape& shape, int heads, int top_k,
                      std::span<const IndexRow> rows, Workspace& workspace);

}  // namespace sluice::kernels
