#include "kernels/matmul.h"

#include <algorithm>
#include <cassert>

#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"

namespace sluice::kernels {
namespace {

/// Numbers that one worker adds up per claim of weighted_sum: about as much work as a dispatch costs.
constexpr int kGrain = 32768;

}  // namespace

void matmul(const Context& context, const float* x, int rows, std::span<const Projection> projections,
            Workspace& workspace) {
  if (projections.empty() || rows == 0) return;
  const Workspace::Mark mark(workspace);
  PreparedInputs prepared(context, x, rows, projections[0].weights->cols, workspace);
  const auto products = workspace.take<Product>(projections.size());
  for (std::size_t p = 0; p < projections.size(); ++p) {
    const Projection& projection = projections[p];
    assert(projection.weights->cols == projections[0].weights->cols && projection.stride >= projection.weights->rows);
    products[p] = {.weights = projection.weights,
                   .x = prepared.for_weights(projection.weights->format, rows),
                   .y = output_rows(projection.y, rows, projection.stride, workspace),
                   .inputs = rows};
  }
  run_products(context, products, workspace);
}

void weighted_sum(const Context& context, const float* expert_outputs, const float* weights, int rows, int k, int n,
                  float* y) {
  const std::int64_t grain = std::max(1, kGrain / std::max(1, k * n));
  context.team.parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* sum = y + row * n;
      std::fill_n(sum, n, 0.0F);
      for (std::int64_t e = row * k; e < (row + 1) * k; ++e) {
        context.isa.matmul->weighted_add(weights[e], expert_outputs + e * n, n, sum);
      }
    }
  });
}

}  // namespace sluice::kernels
