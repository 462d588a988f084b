// What a Model holds, and the forward pass over it. Internal to src/model.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/workspace.h"
#include "model/model.h"
#include "model/moe.h"
#include "model/plan.h"

namespace sluice::model {

/// One pass: the tokens of all steps in a row, each knowing its sequence and position.
struct PassRow {
  Session* session;
  int token;
  int position;
};

struct Model::State {
  State(std::unique_ptr<ModelPlan> planned, const RuntimeSettings& chosen, int threads);

  /// Opens the files and reads the dense weights; makes the cache.
  void load(const LoadProgress& progress);

  void forward(std::span<const SequenceStep> steps, LogitsSink sink);

  std::unique_ptr<ModelPlan> plan;
  RuntimeSettings settings;
  kernels::ThreadTeam team;
  kernels::Context context;
  std::optional<stream::Reader> reader;
  std::unique_ptr<cache::ExpertCache> cache;  // null for dense models
  std::unique_ptr<MoeExecutor> moe;           // likewise
  kernels::Workspace workspace;
  std::vector<PassRow> rows;  // of the current pass
  std::uint64_t steps = 0;    // passes so far: the clock of the eviction policy
  RouteObserver observer;
  ModelInfo info;
  std::optional<double> disk_bandwidth;  // bytes per second, once probed

 private:
  void run_layers(float* x, cache::Phase phase);
  void attention(int layer, const float* h, float* out);
  void feed_forward(int layer, const float* h, float* out, cache::Phase phase);
  void route(const MoeSpec& spec, const MoeWeights& weights, const float* h, std::span<int> ids,
             std::span<float> route_weights);
  void emit_logits(std::span<const SequenceStep> steps, const float* x, LogitsSink sink);
};

}  // namespace sluice::model
