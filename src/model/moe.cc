#include "model/moe.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace sluice::model {

using cache::ReadyExpert;
using kernels::GatherJob;
using kernels::MatrixView;
using kernels::Workspace;

/// The routes of a batch, sorted twice: per row by ascending expert id (the canonical order of the sum) and per expert
/// (the order of the work). A pair is one (row, expert); its index is row * top_k + rank of the expert in the row.
struct MoeExecutor::Routes {
  int top_k = 0;
  std::span<float> weights;     // [T * top_k] by pair
  std::span<int> distinct;      // expert ids that occur, ascending
  std::span<int> pairs;         // [T * top_k] pair indices grouped by expert
  std::span<int> expert_begin;  // [experts + 1] where an expert's pairs start
};

namespace {

/// What the eviction policy is told of a batch: the experts of its last rows.
std::span<const cache::ExpertUse> recent_uses(const MoeBatch& batch, int top_k, Workspace& workspace) {
  const auto width = static_cast<std::size_t>(top_k);
  const auto rows = static_cast<std::size_t>(batch.rows);
  const auto uses = workspace.take<cache::ExpertUse>(std::min<std::size_t>(rows, cache::kRecentTokens) * width);
  std::size_t count = 0;
  cache::for_recent_uses(
      rows, [&](std::size_t row) { return std::span(batch.ids + row * width, width); },
      [&](cache::ExpertUse use) { uses[count++] = use; });
  return uses.first(count);
}

}  // namespace

MoeExecutor::MoeExecutor(const kernels::Context& context, cache::ExpertCache* cache, cache::MappedExperts* mapped,
                         std::span<const ExpertLayout> layouts, MoePath path)
    : context_(context), cache_(cache), mapped_(mapped), layouts_(layouts), path_(path) {}

MoeExecutor::Routes MoeExecutor::sort_routes(const MoeBatch& batch, int experts, int top_k,
                                             Workspace& workspace) const {
  const auto pairs = static_cast<std::size_t>(batch.rows) * static_cast<std::size_t>(top_k);
  Routes routes{top_k,
                workspace.take<float>(pairs),
                {},
                workspace.take<int>(pairs),
                workspace.take<int>(static_cast<std::size_t>(experts) + 1)};
  const std::span<int> expert_of = workspace.take<int>(pairs);
  const std::span<int> order = workspace.take<int>(static_cast<std::size_t>(top_k));
  std::fill(routes.expert_begin.begin(), routes.expert_begin.end(), 0);
  for (std::size_t row = 0; row < static_cast<std::size_t>(batch.rows); ++row) {
    const std::size_t first = row * static_cast<std::size_t>(top_k);
    for (int j = 0; j < top_k; ++j) order[static_cast<std::size_t>(j)] = j;
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return batch.ids[first + static_cast<std::size_t>(a)] < batch.ids[first + static_cast<std::size_t>(b)];
    });
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
      const std::size_t source = first + static_cast<std::size_t>(order[rank]);
      expert_of[first + rank] = batch.ids[source];
      routes.weights[first + rank] = batch.weights[source];
      ++routes.expert_begin[static_cast<std::size_t>(batch.ids[source]) + 1];
    }
  }
  // Counting sort of the pairs by expert.
  std::span<int> distinct = workspace.take<int>(std::min(pairs, static_cast<std::size_t>(experts)));
  std::size_t found = 0;
  for (int e = 0; e < experts; ++e) {
    const auto at = static_cast<std::size_t>(e);
    if (routes.expert_begin[at + 1] > 0) distinct[found++] = e;
    routes.expert_begin[at + 1] += routes.expert_begin[at];
  }
  routes.distinct = distinct.first(found);
  const std::span<int> next = workspace.take<int>(static_cast<std::size_t>(experts));
  std::copy_n(routes.expert_begin.begin(), experts, next.begin());
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    routes.pairs[static_cast<std::size_t>(next[static_cast<std::size_t>(expert_of[pair])]++)] = static_cast<int>(pair);
  }
  return routes;
}

void MoeExecutor::run(const MoeBatch& batch, float* y, const MoeOverlap& overlap, Workspace& workspace) {
  const Workspace::Mark mark(workspace);
  const ExpertLayout& layout = layouts_[static_cast<std::size_t>(batch.layer)];
  const int hidden = layout.down.rows;
  const Routes routes = sort_routes(batch, layout.records.experts, layout.top_k, workspace);
  std::optional<cache::Lease> lease;
  std::span<const ReadyExpert> mapped;  // the one batch there is without a lease
  if (cache_ != nullptr) {
    lease.emplace(cache_->acquire(batch.layer, routes.distinct, batch.phase, batch.step,
                                  recent_uses(batch, layout.top_k, workspace)));
    const int next_layer = batch.layer + 1;
    if (next_layer < cache_->layers() && cache_->wants_guess(batch.phase, next_layer)) {
      cache_->read_ahead(batch.phase, next_layer, overlap.guess_next());
    }
  } else {
    mapped = mapped_->find(batch.layer, routes.distinct);
  }
  const auto next = [&] { return lease ? lease->next() : std::exchange(mapped, {}); };
  overlap.compute();
  const bool may_fuse = path_ == MoePath::fused || path_ == MoePath::automatic;
  if (may_fuse && batch.rows == 1 && (!lease || lease->all_resident())) {
    run_fused(layout, routes, next(), batch, y, workspace);
    return;
  }
  const auto pairs = static_cast<std::size_t>(batch.rows) * static_cast<std::size_t>(layout.top_k);
  const std::span<float> outputs = workspace.take<float>(pairs * static_cast<std::size_t>(hidden));
  for (auto ready = next(); !ready.empty(); ready = next()) {
    run_batch(layout, routes, ready, batch, outputs.data(), workspace);
  }
  kernels::weighted_sum(context_, outputs.data(), routes.weights.data(), batch.rows, layout.top_k, hidden, y);
}

void MoeExecutor::run_fused(const ExpertLayout& layout, const Routes& routes, std::span<const ReadyExpert> ready,
                            const MoeBatch& batch, float* y, Workspace& workspace) {
  const std::span<kernels::ExpertViews> experts = workspace.take<kernels::ExpertViews>(ready.size());
  for (const ReadyExpert& expert : ready) {
    // With one row, the rank of an expert in the row is its place in the canonical order.
    const auto rank =
        std::lower_bound(routes.distinct.begin(), routes.distinct.end(), expert.id) - routes.distinct.begin();
    experts[static_cast<std::size_t>(rank)] = layout.views(expert.parts);
  }
  kernels::moe_fused(context_, experts, routes.weights, layout.activation, batch.x, y, workspace);
}

void MoeExecutor::run_batch(const ExpertLayout& layout, const Routes& routes, std::span<const ReadyExpert> ready,
                            const MoeBatch& batch, float* outputs, Workspace& workspace) {
  const Workspace::Mark mark(workspace);
  const std::span<MatrixView> gate = workspace.take<MatrixView>(ready.size());
  const std::span<MatrixView> up = workspace.take<MatrixView>(ready.size());
  const std::span<MatrixView> down = workspace.take<MatrixView>(ready.size());
  std::size_t count = 0;  // of pairs whose expert is in this batch
  for (const ReadyExpert& expert : ready) {
    const auto e = static_cast<std::size_t>(expert.id);
    count += static_cast<std::size_t>(routes.expert_begin[e + 1] - routes.expert_begin[e]);
  }
  // Rows of the intermediate are numbered within the batch; outputs go to their pair.
  const std::span<GatherJob> in = workspace.take<GatherJob>(count);
  const std::span<GatherJob> out = workspace.take<GatherJob>(count);
  const std::span<int> job_begin = workspace.take<int>(ready.size() + 1);
  int job = 0;
  for (std::size_t i = 0; i < ready.size(); ++i) {
    const kernels::ExpertViews views = layout.views(ready[i].parts);
    gate[i] = views.gate;
    up[i] = views.up;
    down[i] = views.down;
    job_begin[i] = job;
    const auto e = static_cast<std::size_t>(ready[i].id);
    for (int p = routes.expert_begin[e]; p < routes.expert_begin[e + 1]; ++p, ++job) {
      const int pair = routes.pairs[static_cast<std::size_t>(p)];
      in[static_cast<std::size_t>(job)] = {static_cast<int>(i), pair / routes.top_k, job};
      out[static_cast<std::size_t>(job)] = {static_cast<int>(i), job, pair};
    }
  }
  job_begin[ready.size()] = job;

  const int width = layout.up.rows;
  const bool has_gate = layout.gate.rows > 0;
  const int jobs = static_cast<int>(count);
  const auto inner_size = count * static_cast<std::size_t>(width);
  const std::span<float> inner = workspace.take<float>(inner_size);
  const std::span<MatrixView> gates = gate.first(has_gate ? gate.size() : 0);
  if (path_ != MoePath::stacked_split && path_ != MoePath::per_expert) {
    kernels::gather_activated(context_, gates, up, layout.activation, batch.x, batch.rows, in, inner.data(), workspace);
    kernels::gather_matmul(context_, down, inner.data(), jobs, out, outputs, workspace);
    return;
  }
  // One dispatch per projection, for all experts or for one after the other.
  const std::span<float> gate_rows = workspace.take<float>(has_gate ? inner_size : 0);
  const std::size_t steps = path_ == MoePath::per_expert ? ready.size() : 1;
  for (std::size_t i = 0; i < steps; ++i) {
    const auto first = static_cast<std::size_t>(job_begin[i]);
    const std::size_t last = steps == 1 ? count : static_cast<std::size_t>(job_begin[i + 1]);
    const std::span<const GatherJob> part = in.subspan(first, last - first);
    if (has_gate) {
      kernels::gather_matmul(context_, gate, batch.x, batch.rows, part, gate_rows.data(), workspace);
    }
    kernels::gather_matmul(context_, up, batch.x, batch.rows, part, inner.data(), workspace);
    const std::size_t at = first * static_cast<std::size_t>(width);
    kernels::activate(context_, layout.activation, gate_rows.data() + at, inner.data() + at,
                      static_cast<std::int64_t>(part.size()) * width, inner.data() + at);
    kernels::gather_matmul(context_, down, inner.data(), jobs, out.subspan(first, part.size()), outputs, workspace);
  }
}

}  // namespace sluice::model
