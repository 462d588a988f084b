// Mixers with a recurrent state: gated delta net, Kimi delta attention, Mamba-2.
#include <algorithm>

#include "kernels/delta_net.h"
#include "kernels/mamba2.h"
#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {

using kernels::CausalConv;
using kernels::Projection;
using kernels::RecurrentState;
using kernels::Workspace;

namespace {

/// The state of each row's sequence.
std::span<const RecurrentState> states_of(Pass& pass, int state) {
  const auto states = pass.workspace.take<RecurrentState>(pass.rows.size());
  std::transform(pass.rows.begin(), pass.rows.end(), states.begin(),
                 [&](const PassRow& row) { return row.session->state(state); });
  return states;
}

}  // namespace

void apply(Pass& pass, const DeltaNetWeights& weights, const float*, const float* h, float* out) {
  const DeltaNetSpec& spec = *weights.spec;
  const Workspace::Mark mark(pass.workspace);
  std::size_t pieces = 0;
  for (const RowsSpec& rows : spec.in) pieces += rows.pieces.size();
  const auto parts = pass.workspace.take<kernels::ProjectionPart>(pieces);
  std::size_t part = 0;
  for (std::size_t i = 0; i < spec.in.size(); ++i) {
    for (const RowsSpec::Piece& piece : spec.in[i].pieces) {
      parts[part++] = {kernels::row_slice(weights.in[i], piece.row, piece.count), piece.column};
    }
  }
  const kernels::DeltaNetWeights net{.in_proj = parts,
                                     .conv = {spec.conv.taps, spec.shape.channels(), weights.conv.data()},
                                     .dt_bias = weights.dt_bias.data(),
                                     .a_log = weights.a_log.data(),
                                     .norm = weights.norm.data(),
                                     .norm_eps = pass.norm_eps,
                                     .out_proj = weights.out};
  kernels::delta_net(pass.context, spec.shape, net, h, states_of(pass, weights.state), out, pass.workspace);
}

void apply(Pass& pass, const KdaWeights& weights, const float*, const float* h, float* out) {
  const KdaSpec& spec = *weights.spec;
  const kernels::Context& context = pass.context;
  const Workspace::Mark mark(pass.workspace);
  const int count = pass.count();
  const int width = spec.heads * spec.head_dim;
  const std::span<float> qkv = pass.take(3 * width);      // [T, q | k | v]
  const std::span<float> low = pass.take(spec.head_dim);  // inner rows of the decay, then of the gate
  const std::span<float> low_gate = pass.take(spec.head_dim);
  const std::span<float> decay = pass.take(width);      // [T, heads, D]
  const std::span<float> gate = pass.take(width);       // [T, heads, D]
  const std::span<float> beta = pass.take(spec.heads);  // [T, heads]
  const std::span<float> y = pass.take(width);          // [T, heads, D]
  const Projection in[] = {{&weights.q, qkv.data(), 3 * width},
                           {&weights.k, qkv.data() + width, 3 * width},
                           {&weights.v, qkv.data() + 2 * width, 3 * width},
                           {&weights.f_a, low.data(), spec.head_dim},
                           {&weights.g_a, low_gate.data(), spec.head_dim},
                           {&weights.beta, beta.data(), spec.heads}};
  kernels::matmul(context, h, count, in, pass.workspace);
  const Projection f_b[] = {{&weights.f_b, decay.data(), width}};
  kernels::matmul(context, low.data(), count, f_b, pass.workspace);
  const Projection g_b[] = {{&weights.g_b, gate.data(), width}};
  kernels::matmul(context, low_gate.data(), count, g_b, pass.workspace);

  const std::span<const RecurrentState> states = states_of(pass, weights.state);
  const CausalConv conv{spec.conv.taps, 3 * width, weights.conv.data()};
  kernels::causal_conv(context, conv, qkv.data(), 3 * width, states);
  kernels::decay_gates(context, decay.data(), count, width, weights.dt_bias.data(), weights.a_log.data());
  kernels::sigmoid(context, beta.data(), static_cast<std::int64_t>(beta.size()), beta.data());
  const kernels::DeltaShape shape{spec.heads, spec.heads, spec.head_dim, spec.head_dim};
  kernels::delta_rule(context, shape,
                      {.states = states,
                       .qkv = qkv.data(),
                       .qkv_stride = 3 * width,
                       .beta = beta.data(),
                       .beta_stride = spec.heads,
                       .decay = decay.data(),
                       .decay_stride = width,
                       .decay_per_channel = true},
                      y.data());
  kernels::rms_norm(context, y.data(), count * spec.heads, spec.head_dim, weights.norm.data(), pass.norm_eps, y.data());
  kernels::sigmoid_glu(context, gate.data(), y.data(), static_cast<std::int64_t>(y.size()), y.data());
  const Projection o[] = {{&weights.o, out, pass.hidden}};
  kernels::matmul(context, y.data(), count, o, pass.workspace);
}

void apply(Pass& pass, const Mamba2Weights& weights, const float*, const float* h, float* out) {
  const Mamba2Spec& spec = *weights.spec;
  const Workspace::Mark mark(pass.workspace);
  const float* conv_bias = weights.conv_bias.empty() ? nullptr : weights.conv_bias.data();
  const kernels::Mamba2Weights mixer{.in_proj = weights.in,
                                     .conv = {spec.conv.taps, spec.shape.channels(), weights.conv.data(), conv_bias},
                                     .dt_bias = weights.dt_bias.data(),
                                     .a_log = weights.a_log.data(),
                                     .d = weights.d.data(),
                                     .dt_low = spec.dt_low,
                                     .dt_high = spec.dt_high,
                                     .norm = weights.norm.data(),
                                     .norm_eps = pass.norm_eps,
                                     .out_proj = weights.out};
  kernels::mamba2(pass.context, spec.shape, mixer, h, states_of(pass, weights.state), out, pass.workspace);
}

ScratchBytes scratch_bytes(const DeltaNetSpec& spec, int hidden) {
  const double projected = spec.shape.channels() + spec.shape.value_width() + 2.0 * spec.shape.value_heads;
  return {0, 4 * (projected + 2.0 * spec.shape.value_width()) + kPreparedBytes * (hidden + spec.shape.value_width()) +
                 sizeof(RecurrentState)};
}

ScratchBytes scratch_bytes(const KdaSpec& spec, int hidden) {
  const double width = static_cast<double>(spec.heads) * spec.head_dim;
  return {0, 4 * (6 * width + 2.0 * spec.head_dim + spec.heads) + kPreparedBytes * (hidden + width) +
                 sizeof(RecurrentState)};
}

ScratchBytes scratch_bytes(const Mamba2Spec& spec, int hidden) {
  return {0, 4 * (static_cast<double>(spec.shape.projected()) + 2.0 * spec.shape.inner()) +
                 kPreparedBytes * (hidden + spec.shape.inner()) + sizeof(RecurrentState)};
}

}  // namespace sluice::model
