// One token through all its experts in one fork-join: no dispatch and no memory traffic between the projections.
#include <algorithm>
#include <cassert>

#include "kernels/matmul.h"
#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Inner rows that are computed before they are activated and rounded, at least.
constexpr int kInnerUnit = 64;

/// Rows of the second phase that are claimed together, at least.
constexpr int kOutputUnit = 4 * kRowBlock;

/// Columns that one claim of the last phase sums up. The expert outputs are still in the caches.
constexpr int kSumUnit = 256;

/// The largest group of any format.
constexpr int kMaxGroup = 128;

/// Between the phases: the activated inner rows of every expert.
struct Inner {
  ActivationLayout layout;  // group 0: the down projections take f32
  std::span<float> values;  // [experts, inner]
  std::int16_t* codes;      // as InputRow, [experts, ...]
  float* scales;
  float* sums;
};

Inner take_inner(const Context& context, const MatrixView& down, std::size_t experts, Workspace& workspace) {
  const std::size_t count = experts * static_cast<std::size_t>(down.cols);
  Inner inner{{}, workspace.take<float>(count), nullptr, nullptr, nullptr};
  if (uses_int16(context, down.format)) {
    inner.layout = context.isa.matmul->layout(down.format);
    inner.codes = workspace.take<std::int16_t>(count + kActivationSlack).data();
    inner.scales = workspace.take<float>(count / static_cast<std::size_t>(inner.layout.group)).data();
    inner.sums = workspace.take<float>(count / static_cast<std::size_t>(inner.layout.group)).data();
  }
  return inner;
}

InputRow inner_row(const Inner& inner, int expert, int cols) {
  const std::int64_t at = std::int64_t{expert} * cols;
  const float* x = inner.values.data() + at;
  if (inner.layout.group == 0) return {x};
  const std::int64_t group = at / inner.layout.group;
  return {x, inner.codes + at, inner.scales + group, inner.sums + group};
}

/// y = rows [begin, end) of W x.
void multiply_rows(const Context& context, const MatrixView& weights, int begin, int end, const InputRow* x, float* y) {
  for (int row = begin; row < end; row += kRowBlock, y += kRowBlock) {
    multiply_block(context, weights, row, std::min(kRowBlock, end - row), x, &y, 1);
  }
}

/// First phase: rows [begin, end) of the inner values of one expert.
void compute_inner(const Context& context, const ExpertViews& expert, Activation activation, const InputRow* gate_x,
                   const InputRow* up_x, const Inner& inner, std::int64_t offset, int begin, int end) {
  float* out = inner.values.data() + offset + begin;
  float gate[std::max(kInnerUnit, kMaxGroup)];
  // Block by block in turn: while one matrix is computed, what was asked for of the other arrives.
  for (int row = begin; row < end; row += kRowBlock) {
    const int stop = std::min(row + kRowBlock, end);
    if (is_gated(activation)) multiply_rows(context, expert.gate, row, stop, gate_x, gate + (row - begin));
    multiply_rows(context, expert.up, row, stop, up_x, out + (row - begin));
  }
  activate(*context.isa.vector, activation, gate, out, end - begin, out);
  if (inner.layout.group == 0) return;
  const std::int64_t at = offset + begin;
  const std::int64_t group = at / inner.layout.group;
  context.isa.matmul->quantize(out, end - begin, inner.layout, inner.codes + at, inner.scales + group,
                               inner.sums + group);
}

}  // namespace

void moe_fused(const Context& context, std::span<const ExpertViews> experts, std::span<const float> weights,
               Activation activation, const float* x, float* y, Workspace& workspace) {
  assert(!experts.empty() && experts.size() == weights.size());
  const Workspace::Mark mark(workspace);
  const ExpertViews& shape = experts[0];
  const int inner_rows = shape.up.rows;
  const int out_rows = shape.down.rows;
  PreparedInputs prepared(context, x, 1, shape.up.cols, workspace);
  const InputRow* gate_x = is_gated(activation) ? prepared.for_weights(shape.gate.format) : nullptr;
  const InputRow* up_x = prepared.for_weights(shape.up.format);
  const Inner inner = take_inner(context, shape.down, experts.size(), workspace);

  // A unit is whole groups of the down projection: whoever computes a group also rounds it for the second phase.
  const int unit_rows = std::max(kInnerUnit, inner.layout.group);
  const std::int64_t units = (inner_rows + unit_rows - 1) / unit_rows;  // per expert
  const auto inner_phase = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t e = unit / units;
      const int row = static_cast<int>(unit % units) * unit_rows;
      compute_inner(context, experts[static_cast<std::size_t>(e)], activation, gate_x, up_x, inner, e * inner_rows, row,
                    std::min(row + unit_rows, inner_rows));
    }
  };
  const std::int64_t output_units = (out_rows + kOutputUnit - 1) / kOutputUnit;  // per expert
  const auto outputs = workspace.take<float>(experts.size() * static_cast<std::size_t>(out_rows));
  const auto output_phase = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t e = unit / output_units;
      const MatrixView& down = experts[static_cast<std::size_t>(e)].down;
      const InputRow inner_x = inner_row(inner, static_cast<int>(e), down.cols);
      const int row = static_cast<int>(unit % output_units) * kOutputUnit;
      multiply_rows(context, down, row, std::min(row + kOutputUnit, out_rows), &inner_x,
                    outputs.data() + e * out_rows + row);
    }
  };
  // In a phase of its own, so that the one before can stream through one expert at a time.
  const auto sum_phase = [&](std::int64_t begin, std::int64_t end) {
    std::fill(y + begin, y + end, 0.0F);
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const float* product = outputs.data() + e * static_cast<std::size_t>(out_rows) + begin;
      context.isa.matmul->weighted_add(weights[e], product, end - begin, y + begin);
    }
  };
  // Claims, not fixed shares: a worker that the system interrupts holds up nobody.
  const auto count = static_cast<std::int64_t>(experts.size());
  const std::int64_t inner_bytes = unit_rows * shape.up.row_stride * (is_gated(activation) ? 2 : 1);
  const std::int64_t output_bytes = kOutputUnit * shape.down.row_stride;
  const ThreadTeam::Phase phases[] = {
      {units * count, claim_grain(context, units * count, inner_bytes), inner_phase},
      {output_units * count, claim_grain(context, output_units * count, output_bytes), output_phase},
      {out_rows, kSumUnit, sum_phase}};
  context.team.parallel_phases(phases);
}

}  // namespace sluice::kernels
