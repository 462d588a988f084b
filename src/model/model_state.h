// What a Model holds, and the forward pass over it. Internal to src/model.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/workspace.h"
#include "model/heat_file.h"
#include "model/layers/layers.h"
#include "model/model.h"
#include "model/moe.h"
#include "model/plan.h"
#include "stream/mapped_files.h"

namespace sluice::model {

struct Model::State {
  State(std::unique_ptr<ModelPlan> planned, const RuntimeSettings& chosen, int threads);

  /// Opens the files and reads the dense weights.
  void load_dense(const LoadProgress& progress);
  /// Makes what holds and computes experts, and fills slots from the heat file. After load_dense().
  void load_experts(const LoadProgress& progress);

  void forward(std::span<const SequenceStep> steps, LogitsSink sink);

  /// What a warm start reads at most; 0 without one.
  std::uint64_t warm_bytes() const { return warm ? plan->budget.slot_bytes : 0; }

  void watch_memory(std::function<cache::MemoryPressure()> read, std::function<double()> seconds);

  std::unique_ptr<ModelPlan> plan;
  RuntimeSettings settings;
  kernels::ThreadTeam team;
  kernels::Context context;
  std::optional<stream::Reader> reader;
  std::unique_ptr<cache::ExpertCache> cache;     // null for dense models, and if experts are mapped
  stream::MappedFiles files;                     // empty unless they are
  std::unique_ptr<cache::MappedExperts> mapped;  // null unless they are
  bool warm = false;                             // slots are filled from the heat file
  std::uint64_t dense_bytes = 0;                 // read by load_dense()
  Heat heat;                                     // of earlier runs; all 0 without a file
  std::unique_ptr<MoeExecutor> moe;              // null for dense models
  kernels::Workspace workspace;
  std::vector<const BlockWeights*> moe_blocks;  // those with routed experts, in order
  std::vector<PassRow> rows;                    // of the current pass
  std::uint64_t steps = 0;                      // passes so far: the clock of the eviction policy
  RouteObserver observer;
  RouteOverride route_override;
  GuessOverride guess_override;
  std::optional<cache::MemoryWatch> watch;  // over the slots
  ModelInfo info;

 private:
  /// Makes `heat`, from the heat file or all 0.
  void prepare_heat(bool from_file);
  /// Lets the cache shrink or grow if the watch says so, and says so too. Not while a lease is alive.
  void follow_watch();
  void run_blocks(std::span<const PassRow> pass_rows, cache::Phase phase, float* x);
  /// [T, words] for the positions that sparse attention selects; empty for models without it.
  std::span<std::uint64_t> take_selection(int count);
  void emit_logits(std::span<const SequenceStep> steps, const float* x, LogitsSink sink);
};

}  // namespace sluice::model
