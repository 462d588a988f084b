#include "kernels/mamba2.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"
#include "kernels/recurrent_phases.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// What happens between the projections, for all rows of a call.
class Mixer {
 public:
  Mixer(const Context& context, const Mamba2Shape& shape, const Mamba2Weights& weights,
        std::span<const RecurrentState> states, Workspace& workspace)
      : context_(context),
        vector_(*context.isa.vector),
        shape_(shape),
        weights_(weights),
        states_(states),
        projected_(workspace.take<float>(states.size() * static_cast<std::size_t>(shape.projected())).data()),
        decay_(workspace.take<float>(states.size() * static_cast<std::size_t>(shape.heads)).data()),
        staged_(context, weights.out_proj, rows(), rows(), workspace) {}

  float* projected() { return projected_; }
  const InputRow* outputs() const { return staged_.inputs(); }

  /// Columns of in_proj have been computed: convolution and time steps.
  void finish_projection(Columns columns) {
    const int stride = shape_.projected();
    const Columns convolved = overlap(columns, {shape_.inner(), shape_.inner() + shape_.channels()});
    convolve_columns(context_, weights_.conv, projected_ + shape_.inner(), stride, states_,
                     {convolved.begin - shape_.inner(), convolved.end - shape_.inner()});
    const Columns steps = overlap(columns, {dt_column(), stride});
    if (steps.empty()) return;
    const int head = steps.begin - dt_column();
    for (int i = 0; i < rows(); ++i) {
      vector_.decay(row(i) + steps.begin, weights_.dt_bias + head, weights_.a_log + head, weights_.dt_low,
                    weights_.dt_high, steps.end - steps.begin, decay_ + std::int64_t{i} * shape_.heads + head);
    }
  }

  /// The recurrence of one head; its outputs replace x.
  void scan(int head) {
    const int group = head / (shape_.heads / shape_.groups);
    const std::int64_t head_floats = std::int64_t{shape_.head_dim} * shape_.state;
    for (int i = 0; i < rows(); ++i) {
      float* x = row(i) + shape_.inner();
      const float* b = x + shape_.inner() + std::int64_t{group} * shape_.state;
      vector_.ssm_step({.state = states_[static_cast<std::size_t>(i)].memory + head * head_floats,
                        .rows = shape_.head_dim,
                        .width = shape_.state,
                        .decay = decay_[std::int64_t{i} * shape_.heads + head],
                        .dt = row(i)[dt_column() + head],
                        .skip = weights_.d[head],
                        .b = b,
                        .c = b + std::int64_t{shape_.groups} * shape_.state,
                        .x = x + std::int64_t{head} * shape_.head_dim});
    }
  }

  /// Gate and norm of one group of outputs.
  void gate_and_normalize(int i, int group) {
    const int width = shape_.inner() / shape_.groups;
    const int begin = group * width;
    float* out = staged_.row(i) + begin;
    vector_.swiglu(row(i) + begin, row(i) + shape_.inner() + begin, width, out);
    vector_.rms_norm(out, width, weights_.norm + begin, weights_.norm_eps, out);
    staged_.finish(i, begin, begin + width);
  }

 private:
  int rows() const { return static_cast<int>(states_.size()); }
  float* row(int i) { return projected_ + std::int64_t{i} * shape_.projected(); }
  int dt_column() const { return shape_.inner() + shape_.channels(); }

  const Context& context_;
  const VectorKernels& vector_;
  const Mamba2Shape& shape_;
  const Mamba2Weights& weights_;
  std::span<const RecurrentState> states_;
  float* projected_;  // [rows, gate | x B C | dt]
  float* decay_;      // [rows, heads]
  StagedRows staged_;
};

}  // namespace

void mamba2(const Context& context, const Mamba2Shape& shape, const Mamba2Weights& weights, const float* x,
            std::span<const RecurrentState> states, float* y, Workspace& workspace) {
  assert(weights.in_proj.rows == shape.projected() && weights.out_proj.cols == shape.inner());
  assert(shape.heads % shape.groups == 0 && weights.conv.channels == shape.channels());
  if (states.empty()) return;
  const Workspace::Mark mark(workspace);
  const auto rows = static_cast<int>(states.size());
  Mixer mixer(context, shape, weights, states, workspace);
  PreparedInputs prepared(context, x, rows, weights.in_proj.cols, workspace);
  const Product in{.weights = &weights.in_proj,
                   .x = prepared.for_weights(weights.in_proj.format, rows),
                   .y = output_rows(mixer.projected(), rows, shape.projected(), workspace),
                   .inputs = rows};
  const Product out{.weights = &weights.out_proj,
                    .x = mixer.outputs(),
                    .y = output_rows(y, rows, weights.out_proj.rows, workspace),
                    .inputs = rows};
  const ProductPhase in_products(context, {&in, 1}, workspace);
  const ProductPhase out_products(context, {&out, 1}, workspace);

  const auto project = [&](std::int64_t begin, std::int64_t end) {
    in_products.compute(begin, end, [&](std::size_t, int first, int last) { mixer.finish_projection({first, last}); });
  };
  const auto scan = [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) mixer.scan(static_cast<int>(begin));
  };
  const auto normalize = [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) {
      mixer.gate_and_normalize(static_cast<int>(begin / shape.groups), static_cast<int>(begin % shape.groups));
    }
  };
  const auto output = [&](std::int64_t begin, std::int64_t end) { out_products.compute(begin, end); };
  const std::array<ThreadTeam::Phase, 4> phases{{{in_products.units(), in_products.grain(), project},
                                                 {shape.heads, 1, scan},
                                                 {std::int64_t{rows} * shape.groups, 1, normalize},
                                                 {out_products.units(), out_products.grain(), output}}};
  context.team.parallel_phases(phases);
}

}  // namespace sluice::kernels
