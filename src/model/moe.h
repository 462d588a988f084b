// Executes routed experts: the only place where leases and kernels meet.
#pragma once

#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "kernels/matmul.h"
#include "kernels/thread_team.h"
#include "kernels/workspace.h"
#include "model/expert_layout.h"
#include "model/settings.h"

namespace sluice::model {

/// A batch of routed tokens in one MoE layer.
struct MoeBatch {
  int layer = 0;                   // among the MoE layers
  int rows = 0;                    // T
  const float* x = nullptr;        // [T, width of what the experts take]
  const int* ids = nullptr;        // [T, top_k], distinct within a row
  const float* weights = nullptr;  // [T, top_k]
  cache::Phase phase = cache::Phase::decode;
  std::uint64_t step = 0;  // token counter of the eviction policy
};

/// What run() does while the disk reads.
struct MoeOverlap {
  /// Experts that the next MoE layer will probably need, distinct, best first. Called at most once, and only if it is
  /// of any use.
  kernels::FunctionRef<std::span<const int>()> guess_next;
  /// Work that needs no routed expert. Called once.
  kernels::FunctionRef<void()> compute;
};

/// Used by the thread that drives the model. No allocation per call in steady state.
class MoeExecutor {
 public:
  /// Refers to all arguments; they outlive it.
  MoeExecutor(const kernels::Context& context, cache::ExpertCache& cache, std::span<const ExpertLayout> layouts,
              MoePath path);

  /// y [T, as x] = sum over the row's experts, in ascending id, of weight * expert(x row). The result does not depend
  /// on the path, on what is resident, or on the order in which reads land, nor on what is read ahead. Throws Error
  /// when a read fails.
  void run(const MoeBatch& batch, float* y, const MoeOverlap& overlap, kernels::Workspace& workspace);

 private:
  struct Routes;
  Routes sort_routes(const MoeBatch& batch, int experts, int top_k, kernels::Workspace& workspace) const;
  void run_fused(const ExpertLayout& layout, const Routes& routes, std::span<const cache::ReadyExpert> ready,
                 const MoeBatch& batch, float* y, kernels::Workspace& workspace);
  void run_batch(const ExpertLayout& layout, const Routes& routes, std::span<const cache::ReadyExpert> ready,
                 const MoeBatch& batch, float* outputs, kernels::Workspace& workspace);

  const kernels::Context& context_;
  cache::ExpertCache& cache_;
  std::span<const ExpertLayout> layouts_;
  MoePath path_;
};

}  // namespace sluice::model
