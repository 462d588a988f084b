// One token through all its experts in one fork-join: no dispatch and no memory traffic between the projections.
#include <algorithm>
#include <cassert>

#include "kernels/matmul.h"
#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Columns that one claim of the last phase sums up. The expert outputs are still in the caches.
constexpr int kSumUnit = 256;

}  // namespace

void moe_fused(const Context& context, std::span<const ExpertViews> experts, std::span<const float> weights,
               Activation activation, const float* x, float* y, Workspace& workspace) {
  assert(!experts.empty() && experts.size() == weights.size());
  const Workspace::Mark mark(workspace);
  const ExpertViews& shape = experts[0];
  const int out_rows = shape.down.rows;
  PreparedInputs prepared(context, x, 1, shape.up.cols, workspace);
  const bool gated = is_gated(activation);
  const InputRow* gate_x = gated ? prepared.for_weights(shape.gate.format, 1) : nullptr;
  const InputRow* up_x = prepared.for_weights(shape.up.format, 1);
  StagedRows inner(context, shape.down, static_cast<int>(experts.size()), 1, workspace);
  const auto outputs = workspace.take<float>(experts.size() * static_cast<std::size_t>(out_rows));

  const auto inner_parts = workspace.take<Product>(experts.size());
  const auto down_parts = workspace.take<Product>(experts.size());
  for (std::size_t e = 0; e < experts.size(); ++e) {
    const ExpertViews& expert = experts[e];
    inner_parts[e] = {.weights = &expert.up,
                      .x = up_x,
                      .y = output_rows(inner.row(static_cast<int>(e)), 1, 0, workspace),
                      .inputs = 1,
                      .activation = activation,
                      .gate = gated ? &expert.gate : nullptr,
                      .gate_x = gate_x};
    down_parts[e] = {.weights = &expert.down,
                     .x = inner.inputs() + e,
                     .y = output_rows(&outputs[e * static_cast<std::size_t>(out_rows)], 1, 0, workspace),
                     .inputs = 1};
  }
  const ProductPhase inner_products(context, inner_parts, workspace);
  const ProductPhase down_products(context, down_parts, workspace);
  const auto inner_phase = [&](std::int64_t begin, std::int64_t end) {
    inner_products.compute(begin, end, [&](std::size_t expert, int first, int last) {
      inner.finish(static_cast<int>(expert), first, last);
    });
  };
  const auto down_phase = [&](std::int64_t begin, std::int64_t end) { down_products.compute(begin, end); };
  // In a phase of its own, so that the one before can stream through one expert at a time.
  const auto sum_phase = [&](std::int64_t begin, std::int64_t end) {
    std::fill(y + begin, y + end, 0.0F);
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const float* product = outputs.data() + e * static_cast<std::size_t>(out_rows) + begin;
      context.isa.matmul->weighted_add(weights[e], product, end - begin, y + begin);
    }
  };
  // Claims, not fixed shares: a worker that the system interrupts holds up nobody.
  const ThreadTeam::Phase phases[] = {{inner_products.units(), inner_products.grain(), inner_phase},
                                      {down_products.units(), down_products.grain(), down_phase},
                                      {out_rows, kSumUnit, sum_phase}};
  context.team.parallel_phases(phases);
}

}  // namespace sluice::kernels
