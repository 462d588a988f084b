#include "kernels/delta_net.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"
#include "kernels/recurrent_phases.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

constexpr float kKeyNormEps = 1e-6F;

/// Decays for which a dispatch pays: about ten microseconds of work.
constexpr int kDecaysPerChunk = 4096;

/// Decays without limits on the time step.
void decays(const Context& context, float* x, const float* bias, const float* a_log, int n) {
  context.isa.vector->decay(x, bias, a_log, 0.0F, std::numeric_limits<float>::infinity(), n, x);
}

/// One position of one value head: y [value_dim]. Value heads that share a key head each normalise it: that is a
/// hundredth of the work, and they need not wait for each other.
void delta_head(const Context& context, const DeltaShape& shape, const DeltaInputs& in, int i, int head, float* y) {
  const VectorKernels& vector = *context.isa.vector;
  const int key_dim = shape.key_dim;
  const float* q_in = in.qkv + i * in.qkv_stride + std::int64_t{head / (shape.value_heads / shape.key_heads)} * key_dim;
  const float* v = in.qkv + i * in.qkv_stride + 2 * shape.key_width() + std::int64_t{head} * shape.value_dim;
  float q[kMaxDeltaKeyDim], k[kMaxDeltaKeyDim], decay[kMaxDeltaKeyDim];
  vector.rms_norm(q_in, key_dim, nullptr, kKeyNormEps, q);
  vector.rms_norm(q_in + shape.key_width(), key_dim, nullptr, kKeyNormEps, k);
  const float q_scale = 1.0F / static_cast<float>(key_dim);
  const float k_scale = 1.0F / std::sqrt(static_cast<float>(key_dim));
  const float* decay_in = in.decay + i * in.decay_stride + std::int64_t{head} * (in.decay_per_channel ? key_dim : 1);
  for (int j = 0; j < key_dim; ++j) {
    q[j] *= q_scale;
    k[j] *= k_scale;
    decay[j] = decay_in[in.decay_per_channel ? j : 0];
  }
  const std::int64_t head_floats = std::int64_t{shape.value_dim} * key_dim;
  vector.delta_step({.state = in.states[static_cast<std::size_t>(i)].memory + head * head_floats,
                     .rows = shape.value_dim,
                     .width = key_dim,
                     .q = q,
                     .k = k,
                     .decay = decay,
                     .beta = in.beta[i * in.beta_stride + head],
                     .v = v,
                     .y = y});
}

void check(const DeltaShape& shape) {
  assert(shape.key_dim <= kMaxDeltaKeyDim && shape.value_heads % shape.key_heads == 0);
  static_cast<void>(shape);
}

}  // namespace

void delta_rule(const Context& context, const DeltaShape& shape, const DeltaInputs& in, float* y) {
  check(shape);
  const auto rows = static_cast<int>(in.states.size());
  context.team.parallel_for(rows == 0 ? 0 : shape.value_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto head = static_cast<int>(begin); head < end; ++head) {
      for (int i = 0; i < rows; ++i) {
        const std::int64_t at = std::int64_t{i} * shape.value_width() + std::int64_t{head} * shape.value_dim;
        delta_head(context, shape, in, i, head, y + at);
      }
    }
  });
}

void decay_gates(const Context& context, float* x, int rows, int n, const float* bias, const float* a_log) {
  context.team.parallel_for(rows, std::max(1, kDecaysPerChunk / std::max(1, n)),
                            [&](std::int64_t begin, std::int64_t end) {
                              for (; begin < end; ++begin) decays(context, x + begin * n, bias, a_log, n);
                            });
}

void delta_net(const Context& context, const DeltaShape& shape, const DeltaNetWeights& weights, const float* x,
               std::span<const RecurrentState> states, float* y, Workspace& workspace) {
  check(shape);
  assert(weights.out_proj.cols == shape.value_width() && weights.conv.channels == shape.channels());
  if (states.empty()) return;
  const Workspace::Mark mark(workspace);
  const auto rows = static_cast<int>(states.size());
  const VectorKernels& vector = *context.isa.vector;

  // A projected row: q k v | z | b | a.
  const int z_column = shape.channels();
  const int b_column = z_column + shape.value_width();
  const int a_column = b_column + shape.value_heads;
  const int stride = a_column + shape.value_heads;
  float* projected = workspace.take<float>(states.size() * static_cast<std::size_t>(stride)).data();
  const auto row = [=](int i) { return projected + std::int64_t{i} * stride; };

  PreparedInputs prepared(context, x, rows, weights.in_proj[0].weights.cols, workspace);
  const auto parts = workspace.take<Product>(weights.in_proj.size());
  std::transform(weights.in_proj.begin(), weights.in_proj.end(), parts.begin(), [&](const ProjectionPart& part) {
    return Product{.weights = &part.weights,
                   .x = prepared.for_weights(part.weights.format, rows),
                   .y = output_rows(projected + part.column, rows, stride, workspace),
                   .inputs = rows};
  });
  const ProductPhase in_products(context, parts, workspace);
  const auto project = [&](std::int64_t begin, std::int64_t end) {
    in_products.compute(begin, end, [&](std::size_t part, int first, int last) {
      const int column = weights.in_proj[part].column;
      const Columns columns{column + first, column + last};
      convolve_columns(context, weights.conv, projected, stride, states, overlap(columns, {0, z_column}));
      const Columns b = overlap(columns, {b_column, a_column});
      const Columns a = overlap(columns, {a_column, stride});
      for (int i = 0; i < rows && !b.empty(); ++i) vector.sigmoid(row(i) + b.begin, b.end - b.begin, row(i) + b.begin);
      for (int i = 0; i < rows && !a.empty(); ++i) {
        const int head = a.begin - a_column;
        decays(context, row(i) + a.begin, weights.dt_bias + head, weights.a_log + head, a.end - a.begin);
      }
    });
  };

  StagedRows staged(context, weights.out_proj, rows, rows, workspace);
  const DeltaInputs inputs{states, projected, stride, projected + b_column, stride, projected + a_column,
                           stride, false};
  const auto mix = [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) {
      const auto head = static_cast<int>(begin);
      const int at = head * shape.value_dim;
      for (int i = 0; i < rows; ++i) {
        float* out = staged.row(i) + at;
        delta_head(context, shape, inputs, i, head, out);
        vector.rms_norm(out, shape.value_dim, weights.norm, weights.norm_eps, out);
        vector.swiglu(row(i) + z_column + at, out, shape.value_dim, out);
        staged.finish(i, at, at + shape.value_dim);
      }
    }
  };

  const Product out{.weights = &weights.out_proj,
                    .x = staged.inputs(),
                    .y = output_rows(y, rows, weights.out_proj.rows, workspace),
                    .inputs = rows};
  const ProductPhase out_products(context, {&out, 1}, workspace);
  const auto output = [&](std::int64_t begin, std::int64_t end) { out_products.compute(begin, end); };
  const std::array<ThreadTeam::Phase, 3> phases{{{in_products.units(), in_products.grain(), project},
                                                 {shape.value_heads, 1, mix},
                                                 {out_products.units(), out_products.grain(), output}}};
  context.team.parallel_phases(phases);
}

}  // namespace sluice::kernels
