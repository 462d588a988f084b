// Matrix products gathered over a table of experts. Jobs that follow each other with the same view are one product:
// in prefill they share the unpacked weights.
#include <algorithm>
#include <cassert>

#include "kernels/matmul.h"
#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"

namespace sluice::kernels {
namespace {

/// The rows of `prepared` in the order of the jobs.
std::span<InputRow> gathered(const InputRow* prepared, std::span<const GatherJob> jobs, Workspace& workspace) {
  const auto rows = workspace.take<InputRow>(jobs.size());
  std::transform(jobs.begin(), jobs.end(), rows.begin(), [&](const GatherJob& job) { return prepared[job.lhs]; });
  return rows;
}

/// gate and, unless it is empty, up: tables of equal length.
void gather_products(const Context& context, std::span<const MatrixView> table, std::span<const MatrixView> up,
                     const float* x, int x_rows, std::span<const GatherJob> jobs, float* y, Workspace& workspace) {
  if (jobs.empty()) return;
  assert(std::is_sorted(jobs.begin(), jobs.end(), [](auto& a, auto& b) { return a.view < b.view; }));
  const Workspace::Mark mark(workspace);
  const auto view_of = [](std::span<const MatrixView> views, const GatherJob& job) {
    return views.empty() ? nullptr : &views[static_cast<std::size_t>(job.view)];
  };
  const MatrixView& shape = *view_of(table, jobs[0]);
  PreparedInputs prepared(context, x, x_rows, shape.cols, workspace);
  const auto inputs = gathered(prepared.for_weights(shape.format), jobs, workspace);
  std::span<InputRow> up_inputs = inputs;
  if (!up.empty() && view_of(up, jobs[0])->format != shape.format) {
    up_inputs = gathered(prepared.for_weights(view_of(up, jobs[0])->format), jobs, workspace);
  }
  const auto outputs = workspace.take<float*>(jobs.size());
  std::transform(jobs.begin(), jobs.end(), outputs.begin(),
                 [&](const GatherJob& job) { return y + std::int64_t{job.out} * shape.rows; });

  const auto products = workspace.take<Product>(jobs.size());  // at most one per job
  std::size_t count = 0;
  for (std::size_t begin = 0, end = 0; begin < jobs.size(); begin = end) {
    while (end < jobs.size() && jobs[end].view == jobs[begin].view) ++end;
    products[count++] = {view_of(table, jobs[begin]),   &inputs[begin],           &outputs[begin],
                         static_cast<int>(end - begin), view_of(up, jobs[begin]), &up_inputs[begin]};
  }
  run_products(context, products.first(count), workspace);
}

}  // namespace

void gather_matmul(const Context& context, std::span<const MatrixView> table, const float* x, int x_rows,
                   std::span<const GatherJob> jobs, float* y, Workspace& workspace) {
  gather_products(context, table, {}, x, x_rows, jobs, y, workspace);
}

void gather_glu(const Context& context, std::span<const MatrixView> gate, std::span<const MatrixView> up,
                [[maybe_unused]] Activation activation, const float* x, int x_rows, std::span<const GatherJob> jobs,
                float* y, Workspace& workspace) {
  assert(activation == Activation::swiglu && gate.size() == up.size());
  gather_products(context, gate, up, x, x_rows, jobs, y, workspace);
}

}  // namespace sluice::kernels
