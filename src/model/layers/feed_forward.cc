// Feed-forward blocks: dense MLPs and routed experts.
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
  const auto normed = [&](std::span<const float> norm) {  // the block's input by a norm of the branch, or h
    if (norm.empty()) return h;
    const std::span<float> result = pass.take(pass.hidden);
    kernels::rms_norm(pass.context, x, pass.count(), pass.hidden, norm.data(), pass.norm_eps, result.data());
    return static_cast<const float*>(result.data());
  };
  const std::span<float> logits = pass.take(spec.experts);                       // [T, E]
  const std::span<int> ids = pass.workspace.take<int>(pass.floats(spec.top_k));  // [T, k]
  const std::span<float> route_weights = pass.take(spec.top_k);                  // [T, k]
  multiply(pass, weights.router, normed(weights.router_in), logits.data());
  route(pass.context, spec.router, spec.experts, spec.top_k, weights.correction, weights.expert_scale, logits, ids,
        route_weights, pass.workspace);
  if (*pass.observer || *pass.route_override) {
    const auto k = static_cast<std::size_t>(spec.top_k);
    for (std::size_t row = 0; row < pass.rows.size(); ++row) {
      const std::span<int> row_ids = ids.subspan(row * k, k);
      const std::span<float> row_weights = route_weights.subspan(row * k, k);
      if (*pass.route_override) {
        (*pass.route_override)(weights.index, static_cast<int>(row), row_ids, row_weights);
      }
      if (*pass.observer) (*pass.observer)(weights.index, static_cast<int>(row), row_ids, row_weights);
    }
  }
  const float* in = normed(weights.experts_in);
  std::span<float> latent_out;
  if (spec.latent_dim > 0) {
    const std::span<float> latent_in = pass.take(spec.latent_dim);
    multiply(pass, weights.latent_in, in, latent_in.data());
    in = latent_in.data();
    latent_out = pass.take(spec.latent_dim);
  }
  const std::span<float> shared = spec.shared ? pass.take(pass.hidden) : std::span<float>();
  const auto while_reading = [&] {
    if (spec.shared) apply_shared(pass, weights, x, h, shared.data());
  };
  pass.moe->run({weights.index, pass.count(), in, ids.data(), route_weights.data(), pass.phase, pass.step},
                spec.latent_dim > 0 ? latent_out.data() : out, while_reading, pass.workspace);
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
  // Router scores; per chosen expert its output, gate and up rows, prepared inputs, and the lists of jobs.
  constexpr double kJobBytes = 64;
  const int width = spec.latent_dim > 0 ? spec.latent_dim : hidden;
  const double routed =
      spec.top_k * (4 * (width + 2.0 * spec.width) + kPreparedBytes * (width + spec.width) + kJobBytes);
  const double branches = 4.0 * hidden * (spec.norms ? 2 : 0) + 4.0 * 2 * spec.latent_dim;
  const double shared = spec.shared ? 4.0 * (hidden + 1) + scratch_bytes(*spec.shared, hidden).per_row : 0;
  return {0, 4.0 * spec.experts + branches + routed + shared + kPreparedBytes * hidden};
}

}  // namespace sluice::model
