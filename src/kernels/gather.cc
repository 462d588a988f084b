// Matrix products gathered over a table of experts. Jobs that follow each other with the same view are one product:
// in prefill they share the unpacked weights.
#include <algorithm>
#include <cassert>

#include "kernels/matmul.h"
#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"

namespace sluice::kernels {
namespace {

/// The inputs of some of the jobs, whose products want one layout. In a wave of prefill the jobs of a few experts use a
/// few of many rows: then only those are rounded.
class InputShare {
 public:
  /// `chosen`: indices into `jobs`. `inputs`: of a product, as for PreparedInputs.
  InputShare(const Context& context, const float* x, int x_rows, int cols, std::span<const GatherJob> jobs,
             std::span<const int> chosen, int inputs, Workspace& workspace)
      : jobs_(jobs),
        chosen_(chosen),
        inputs_(inputs),
        few_(chosen.size() < static_cast<std::size_t>(x_rows)),
        prepared_(few_ ? PreparedInputs(context, x, rows_of(jobs, chosen, workspace), cols, workspace)
                       : PreparedInputs(context, x, x_rows, cols, workspace)) {}

  /// rows [jobs]: sets those of the chosen jobs, for weights of `format`.
  void fill(const Format& format, std::span<InputRow> rows) {
    if (chosen_.empty()) return;
    const InputRow* prepared = prepared_.for_weights(format, inputs_);
    for (std::size_t c = 0; c < chosen_.size(); ++c) {
      const auto job = static_cast<std::size_t>(chosen_[c]);
      rows[job] = prepared[few_ ? c : static_cast<std::size_t>(jobs_[job].lhs)];
    }
  }

 private:
  static std::span<const int> rows_of(std::span<const GatherJob> jobs, std::span<const int> chosen,
                                      Workspace& workspace) {
    const auto rows = workspace.take<int>(chosen.size());
    std::transform(chosen.begin(), chosen.end(), rows.begin(),
                   [&](int job) { return jobs[static_cast<std::size_t>(job)].lhs; });
    return rows;
  }

  std::span<const GatherJob> jobs_;
  std::span<const int> chosen_;
  int inputs_;
  bool few_;  // fewer jobs than rows
  PreparedInputs prepared_;
};

/// The end of the jobs of one view that begin at `begin`: they are one product.
std::size_t product_end(std::span<const GatherJob> jobs, std::size_t begin) {
  const auto other = [&](const GatherJob& job) { return job.view != jobs[begin].view; };
  return static_cast<std::size_t>(std::find_if(jobs.begin() + static_cast<std::ptrdiff_t>(begin), jobs.end(), other) -
                                  jobs.begin());
}

/// Indices of the jobs whose products have at least `least` inputs and fewer than `limit`.
std::span<const int> jobs_of_products(std::span<const GatherJob> jobs, std::size_t least, std::size_t limit,
                                      Workspace& workspace) {
  const auto chosen = workspace.take<int>(jobs.size());
  std::size_t count = 0;
  for (std::size_t begin = 0, end = 0; begin < jobs.size(); begin = end) {
    end = product_end(jobs, begin);
    if (end - begin < least || end - begin >= limit) continue;
    for (std::size_t job = begin; job < end; ++job) chosen[count++] = static_cast<int>(job);
  }
  return chosen.first(count);
}

/// The inputs of all jobs, one per job. Products of fewer inputs than `apart` have another layout than the others.
class JobInputs {
 public:
  JobInputs(const Context& context, const float* x, int x_rows, int cols, std::span<const GatherJob> jobs,
            std::size_t apart, Workspace& workspace)
      : jobs_(jobs.size()),
        workspace_(workspace),
        few_(context, x, x_rows, cols, jobs, jobs_of_products(jobs, 0, apart, workspace), 1, workspace),
        many_(context, x, x_rows, cols, jobs, jobs_of_products(jobs, apart, jobs.size() + 1, workspace), kTileInputs,
              workspace) {}

  const InputRow* for_weights(const Format& format) {
    const auto rows = workspace_.take<InputRow>(jobs_);
    few_.fill(format, rows);
    many_.fill(format, rows);
    return rows.data();
  }

 private:
  std::size_t jobs_;
  Workspace& workspace_;
  InputShare few_;
  InputShare many_;
};

/// y = weights x, or activation(gate x, weights x): `gate` is empty, or a table as long as that of the weights.
void gather_products(const Context& context, std::span<const MatrixView> table, std::optional<Activation> activation,
                     std::span<const MatrixView> gate, const float* x, int x_rows, std::span<const GatherJob> jobs,
                     float* y, Workspace& workspace) {
  if (jobs.empty()) return;
  assert(std::is_sorted(jobs.begin(), jobs.end(), [](auto& a, auto& b) { return a.view < b.view; }));
  const Workspace::Mark mark(workspace);
  const auto view_of = [](std::span<const MatrixView> views, const GatherJob& job) {
    return views.empty() ? nullptr : &views[static_cast<std::size_t>(job.view)];
  };
  const MatrixView& shape = *view_of(table, jobs[0]);
  const Format& gate_format = gate.empty() ? shape.format : view_of(gate, jobs[0])->format;
  const auto layout_varies = [&](const Format& format) {
    return layout_for(context, format, 1) != layout_for(context, format, kTileInputs);
  };
  const bool apart = layout_varies(shape.format) || layout_varies(gate_format);
  JobInputs prepared(context, x, x_rows, shape.cols, jobs, apart ? kTileInputs : 0, workspace);
  const InputRow* inputs = prepared.for_weights(shape.format);
  const InputRow* gate_inputs = gate_format == shape.format ? inputs : prepared.for_weights(gate_format);
  const auto outputs = workspace.take<float*>(jobs.size());
  std::transform(jobs.begin(), jobs.end(), outputs.begin(),
                 [&](const GatherJob& job) { return y + std::int64_t{job.out} * shape.rows; });

  const auto products = workspace.take<Product>(jobs.size());  // at most one per job
  std::size_t count = 0;
  for (std::size_t begin = 0, end = 0; begin < jobs.size(); begin = end) {
    end = product_end(jobs, begin);
    products[count++] = {.weights = view_of(table, jobs[begin]),
                         .x = inputs + begin,
                         .y = &outputs[begin],
                         .inputs = static_cast<int>(end - begin),
                         .activation = activation,
                         .gate = view_of(gate, jobs[begin]),
                         .gate_x = gate_inputs + begin};
  }
  run_products(context, products.first(count), workspace);
}

/// Columns of an untransposed product that are decoded at once, whole groups of any format: with the outputs of
/// kMaxInputs rows they stay in the L2 cache while the rows of weights pass by.
constexpr int kDecodedColumns = 256;

/// Columns [first, first + count) of y = x W for jobs of one view.
void multiply_columns(const Context& context, const MatrixView& weights, int first, int count, const float* x,
                      std::span<const GatherJob> jobs, float* y) {
  const auto output = [&](const GatherJob& job) { return y + std::int64_t{job.out} * weights.cols + first; };
  for (const GatherJob& job : jobs) std::fill_n(output(job), count, 0.0F);
  float w[kDecodedColumns];
  for (int row = 0; row < weights.rows; ++row) {
    context.isa.matmul->decode(weights, row, first, count, w);
    for (const GatherJob& job : jobs) {
      context.isa.matmul->weighted_add(x[std::int64_t{job.lhs} * weights.rows + row], w, count, output(job));
    }
  }
}

}  // namespace

void gather_matmul_untransposed(const Context& context, std::span<const MatrixView> table, const float* x,
                                std::span<const GatherJob> jobs, float* y) {
  if (jobs.empty()) return;
  assert(std::is_sorted(jobs.begin(), jobs.end(), [](auto& a, auto& b) { return a.view < b.view; }));
  // A claim is some columns of one view, which need not have jobs.
  const int cols = table[static_cast<std::size_t>(jobs[0].view)].cols;
  const int pieces = (cols + kDecodedColumns - 1) / kDecodedColumns;
  const auto views = static_cast<std::int64_t>(table.size());
  context.team.parallel_for(views * pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) {
      const auto view = static_cast<int>(begin / pieces);
      const int first = static_cast<int>(begin % pieces) * kDecodedColumns;
      const auto [from, to] = std::equal_range(jobs.begin(), jobs.end(), GatherJob{view, 0, 0},
                                               [](auto& a, auto& b) { return a.view < b.view; });
      for (auto job = from; job < to; job += std::min<std::ptrdiff_t>(kMaxInputs, to - job)) {
        multiply_columns(context, table[static_cast<std::size_t>(view)], first, std::min(kDecodedColumns, cols - first),
                         x, {job, job + std::min<std::ptrdiff_t>(kMaxInputs, to - job)}, y);
      }
    }
  });
}

void gather_matmul(const Context& context, std::span<const MatrixView> table, const float* x, int x_rows,
                   std::span<const GatherJob> jobs, float* y, Workspace& workspace) {
  gather_products(context, table, std::nullopt, {}, x, x_rows, jobs, y, workspace);
}

void gather_activated(const Context& context, std::span<const MatrixView> gate, std::span<const MatrixView> up,
                      Activation activation, const float* x, int x_rows, std::span<const GatherJob> jobs, float* y,
                      Workspace& workspace) {
  assert(gate.size() == (is_gated(activation) ? up.size() : 0));
  gather_products(context, up, activation, gate, x, x_rows, jobs, y, workspace);
}

}  // namespace sluice::kernels
