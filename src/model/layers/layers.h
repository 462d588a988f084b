// The operations of a model's blocks, one function per kind: rows of activations in, rows of activations out.
// Shapes: T rows in the pass, H hidden; a row is one token of some sequence.
#pragma once

#include <span>

#include "cache/expert_cache.h"
#include "kernels/isa.h"
#include "kernels/workspace.h"
#include "model/moe.h"
#include "model/route_observer.h"
#include "model/session.h"
#include "model/weights.h"

namespace sluice::model {

/// The tokens of all steps of a pass in a row, each knowing its sequence and position.
struct PassRow {
  Session* session;
  int token;
  int position;
};

/// What the operations of one forward pass share. Used by the thread that drives the model.
struct Pass {
  const kernels::Context& context;
  kernels::Workspace& workspace;
  const SessionShape& session;    // of all sequences
  std::span<const PassRow> rows;  // [T]; rows of a sequence stand together, in order of position
  int hidden = 0;
  float norm_eps = 0;
  MoeExecutor* moe = nullptr;                     // null for dense models
  const RouteObserver* observer = nullptr;        // may be empty
  const RouteOverride* route_override = nullptr;  // likewise
  const GuessOverride* guess_override = nullptr;  // likewise
  std::span<const BlockWeights* const> moe_blocks = {};
  cache::Phase phase = cache::Phase::decode;
  std::uint64_t step = 0;                   // passes so far: the clock of the eviction policy
  std::span<std::uint64_t> selection = {};  // [T, words]: positions that the last indexer chose; empty without one
  int selection_top_k = 0;                  // of them; a row that sees no more positions than that sees all

  int count() const { return static_cast<int>(rows.size()); }
  std::size_t floats(int per_row) const { return rows.size() * static_cast<std::size_t>(per_row); }
  std::span<float> take(int per_row) const { return workspace.take<float>(floats(per_row)); }
  /// Words of 64 positions that `selection` has per row.
  std::size_t selection_words() const { return selection.size() / rows.size(); }
};

// out [T, H] = operation(h [T, H]); x [T, H] is the input of the block before its norm. Throws Error when a read fails.
void apply(Pass& pass, const AttentionWeights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const MlaWeights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const DeltaNetWeights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const KdaWeights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const Mamba2Weights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const MlpWeights& weights, const float* x, const float* h, float* out);
void apply(Pass& pass, const MoeWeights& weights, const float* x, const float* h, float* out);

/// ids and route_weights [T, top_k] for logits [T, experts], which are used up. Per row: scores of the logits, a
/// correction for the choice, groups, top-k, weights of the scores (docs/arithmetic.md).
void route(const kernels::Context& context, const RouterSpec& spec, int experts, int top_k,
           std::span<const float> correction, std::span<const float> expert_scale, std::span<float> logits,
           std::span<int> ids, std::span<float> route_weights, kernels::Workspace& workspace);

/// What an operation takes from the workspace, for the memory budget.
struct ScratchBytes {
  double fixed = 0;
  double per_row = 0;  // of a pass
};
ScratchBytes scratch_bytes(const AttentionSpec& spec, int hidden);
ScratchBytes scratch_bytes(const MlaSpec& spec, int hidden);
ScratchBytes scratch_bytes(const DeltaNetSpec& spec, int hidden);
ScratchBytes scratch_bytes(const KdaSpec& spec, int hidden);
ScratchBytes scratch_bytes(const Mamba2Spec& spec, int hidden);
ScratchBytes scratch_bytes(const MlpSpec& spec, int hidden);
ScratchBytes scratch_bytes(const MoeSpec& spec, int hidden);

/// Bytes of a float prepared for a quantized product: int16 values, and scales and sums per group of at least 16.
inline constexpr double kPreparedBytes = 2 + 8.0 / 16;

}  // namespace sluice::model
