// Feed-forward blocks: dense MLPs and routed experts.
#include <algorithm>
#include <numeric>

#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {

using kernels::Projection;
using kernels::Workspace;

namespace {

void multiply(Pass& pass, const kernels::MatrixView& weights, const float* x, float* y) {
  const Projection projection[] = {{&weights, y, weights.rows}};
  kernels::matmul(pass.context, x, pass.count(), projection, pass.workspace);
}

/// What goes to every token beside the routed experts: out [T, H].
void apply_shared(Pass& pass, const MoeWeights& weights, const float* x, const float* h, float* out) {
  apply(pass, *weights.shared, x, h, out);
  if (weights.shared_gate.rows > 0) {
    const Workspace::Mark mark(pass.workspace);
    const std::span<float> gate = pass.take(1);
    multiply(pass, weights.shared_gate, h, gate.data());
    kernels::sigmoid(pass.context, gate.data(), pass.count(), gate.data());
    const auto hidden = static_cast<std::size_t>(pass.hidden);
    for (std::size_t row = 0; row < pass.rows.size(); ++row) {
      for (float& value : std::span(out + row * hidden, hidden)) value *= gate[row];
    }
  }
  if (!weights.shared_out.empty()) {
    kernels::rms_norm(pass.context, out, pass.count(), pass.hidden, weights.shared_out.data(), pass.norm_eps, out);
  }
}

/// x by a norm of the branch [T, H], or h if it has none.
const float* branch_input(Pass& pass, std::span<const float> norm, const float* x, const float* h) {
  if (norm.empty()) return h;
  const std::span<float> result = pass.take(pass.hidden);
  kernels::rms_norm(pass.context, x, pass.count(), pass.hidden, norm.data(), pass.norm_eps, result.data());
  return result.data();
}

/// ids and route_weights [T, top_k] by the router of an MoE block, whose input is x and normed input h.
void run_router(Pass& pass, const MoeWeights& weights, const float* x, const float* h, std::span<int> ids,
                std::span<float> route_weights) {
  const MoeSpec& spec = *weights.spec;
  const Workspace::Mark mark(pass.workspace);
  const std::span<float> logits = pass.take(spec.experts);  // [T, E]
  multiply(pass, weights.router, branch_input(pass, weights.router_in, x, h), logits.data());
  route(pass.context, spec.router, spec.experts, spec.top_k, weights.correction, weights.expert_scale, logits, ids,
        route_weights, pass.workspace);
}

/// What the MoE block after `weights` will probably need: its router applied to x, the input of this block. Of several
/// rows, the experts that most of them choose come first.
std::span<const int> guess_next(Pass& pass, const MoeWeights& weights, const float* x) {
  const BlockWeights& block = *pass.moe_blocks[static_cast<std::size_t>(weights.index) + 1];
  const auto& next = std::get<MoeWeights>(block.operation);
  const auto k = static_cast<std::size_t>(next.spec->top_k);
  const std::span<int> guess = pass.workspace.take<int>(static_cast<std::size_t>(next.spec->experts));
  const Workspace::Mark mark(pass.workspace);
  const std::span<int> ids = pass.workspace.take<int>(pass.floats(next.spec->top_k));
  const float* h = branch_input(pass, block.norm, x, x);
  run_router(pass, next, x, h, ids, pass.take(next.spec->top_k));
  if (*pass.guess_override) {
    for (std::size_t row = 0; row < pass.rows.size(); ++row) {
      (*pass.guess_override)(next.index, static_cast<int>(row), ids.subspan(row * k, k));
    }
  }
  if (pass.count() == 1) {
    std::copy(ids.begin(), ids.end(), guess.begin());
    return guess.first(k);
  }
  const std::span<int> rows_of = pass.workspace.take<int>(guess.size());  // [E] rows that choose an expert
  std::fill(rows_of.begin(), rows_of.end(), 0);
  for (const int id : ids) ++rows_of[static_cast<std::size_t>(id)];
  std::iota(guess.begin(), guess.end(), 0);
  std::sort(guess.begin(), guess.end(), [&](int a, int b) {
    const int rows_a = rows_of[static_cast<std::size_t>(a)];
    const int rows_b = rows_of[static_cast<std::size_t>(b)];
    return rows_a != rows_b ? rows_a > rows_b : a < b;
  });
  const auto chosen = std::count_if(rows_of.begin(), rows_of.end(), [](int rows) { return rows > 0; });
  return guess.first(static_cast<std::size_t>(chosen));
}

}  // namespace

void apply(Pass& pass, const MlpWeights& weights, const float*, const float* h, float* out) {
  const Workspace::Mark mark(pass.workspace);
  const int width = weights.up.rows;
  const std::span<float> gate = pass.take(weights.gate.rows);  // [T, width], empty for relu2
  const std::span<float> up = pass.take(width);                // [T, width]
  const Projection in[] = {{&weights.up, up.data(), width}, {&weights.gate, gate.data(), width}};
  kernels::matmul(pass.context, h, pass.count(), std::span(in).first(gate.empty() ? 1 : 2), pass.workspace);
  kernels::activate(pass.context, weights.spec->activation, gate.data(), up.data(),
                    static_cast<std::int64_t>(up.size()), up.data());
  multiply(pass, weights.down, up.data(), out);
}

void apply(Pass& pass, const MoeWeights& weights, const float* x, const float* h, float* out) {
  const MoeSpec& spec = *weights.spec;
  const Workspace::Mark mark(pass.workspace);
  const std::span<int> ids = pass.workspace.take<int>(pass.floats(spec.top_k));  // [T, k]
  const std::span<float> route_weights = pass.take(spec.top_k);                  // [T, k]
  run_router(pass, weights, x, h, ids, route_weights);
  if (*pass.observer || *pass.route_override) {
    const auto k = static_cast<std::size_t>(spec.top_k);
    for (std::size_t row = 0; row < pass.rows.size(); ++row) {
      const std::span<int> row_ids = ids.subspan(row * k, k);
      const std::span<float> row_weights = route_weights.subspan(row * k, k);
      if (*pass.route_override) {
        (*pass.route_override)(weights.index, static_cast<int>(row), row_ids, row_weights);
      }
      if (*pass.observer) (*pass.observer)(pass.phase, weights.index, static_cast<int>(row), row_ids, row_weights);
    }
  }
  const float* in = branch_input(pass, weights.experts_in, x, h);
  std::span<float> latent_out;
  if (spec.latent_dim > 0) {
    const std::span<float> latent_in = pass.take(spec.latent_dim);
    multiply(pass, weights.latent_in, in, latent_in.data());
    in = latent_in.data();
    latent_out = pass.take(spec.latent_dim);
  }
  const std::span<float> shared = spec.shared ? pass.take(pass.hidden) : std::span<float>();
  const auto guess = [&] { return guess_next(pass, weights, x); };
  const auto compute_shared = [&] {
    if (spec.shared) apply_shared(pass, weights, x, h, shared.data());
  };
  pass.moe->run({weights.index, pass.count(), in, ids.data(), route_weights.data(), pass.phase, pass.step},
                spec.latent_dim > 0 ? latent_out.data() : out, {guess, compute_shared}, pass.workspace);
  if (spec.latent_dim > 0) multiply(pass, weights.latent_out, latent_out.data(), out);
  if (!weights.experts_out.empty()) {
    kernels::rms_norm(pass.context, out, pass.count(), pass.hidden, weights.experts_out.data(), pass.norm_eps, out);
  }
  if (spec.shared) kernels::add(pass.context, shared.data(), static_cast<std::int64_t>(shared.size()), out);
}

ScratchBytes scratch_bytes(const MlpSpec& spec, int hidden) {
  return {0, 4 * 2.0 * spec.width + kPreparedBytes * (hidden + spec.width)};
}

ScratchBytes scratch_bytes(const MoeSpec& spec, int hidden) {
  // Router scores, choices and groups, of this router or of the next; per chosen expert its output, gate and up rows,
  // prepared inputs, and the lists of jobs.
  constexpr double kJobBytes = 64;
  const int width = spec.latent_dim > 0 ? spec.latent_dim : hidden;
  const double routed =
      spec.top_k * (4 * (width + 2.0 * spec.width) + kPreparedBytes * (width + spec.width) + kJobBytes);
  const double branches = 4.0 * hidden * (spec.norms ? 2 : 0) + 4.0 * 2 * spec.latent_dim;
  const double shared = spec.shared ? 4.0 * (hidden + 1) + scratch_bytes(*spec.shared, hidden).per_row : 0;
  const double guess = 4.0 * hidden + 8.0 * spec.top_k;
  const double router = 4.0 * (2 * spec.experts + spec.router.groups + spec.router.group_top_k);
  return {4.0 * 2 * spec.experts, router + branches + routed + shared + guess + kPreparedBytes * hidden};
}

}  // namespace sluice::model
