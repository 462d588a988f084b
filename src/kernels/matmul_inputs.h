// The input rows of a matrix product in the form that the kernels want.
#pragma once

#include <span>

#include "kernels/isa.h"
#include "kernels/matmul_kernels.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// The layout that weights of `format` ask for of `inputs` rows in this context; group 0 stands for f32 activations.
ActivationLayout layout_for(const Context& context, const Format& format, int inputs);

/// Memory for int16 rows [rows, cols]; it is the workspace's, and the caller holds the Mark.
class RoundedRows {
 public:
  /// `layout` of group 0 stands for f32 activations: there is nothing to round.
  RoundedRows(const Context& context, ActivationLayout layout, int rows, int cols, Workspace& workspace);

  /// Columns that are rounded together, or 0: there is nothing to round.
  int group() const { return layout_.group; }

  /// Rounds columns [begin, end), whole groups, of row i, whose values are x [cols].
  void round(int i, const float* x, int begin, int end) const;

  /// Row i, whose values are x [cols].
  InputRow row(int i, const float* x) const;

 private:
  const MatmulKernels& kernels_;
  ActivationLayout layout_;  // group 0: f32
  std::int64_t cols_;
  std::int16_t* codes_ = nullptr;
  float* scales_ = nullptr;
  float* sums_ = nullptr;
};

/// Input rows of a product that an earlier phase of the same dispatch computes, piece by piece, on any threads: whoever
/// completes a group also rounds it. Memory as above.
class StagedRows {
 public:
  /// For products of `inputs` of the rows and weights like `weights`.
  StagedRows(const Context& context, const MatrixView& weights, int rows, int inputs, Workspace& workspace);

  /// [cols] values to fill.
  float* row(int i) { return values_ + std::int64_t{i} * cols_; }

  /// Says that columns [begin, end) of row i hold their values. Every column once.
  void finish(int i, int begin, int end);

  /// [rows], complete once every column is finished.
  const InputRow* inputs() const { return inputs_; }

 private:
  int cols_;
  float* values_;
  RoundedRows rounded_;
  InputRow* inputs_;
  std::span<int> finished_;  // columns of each group, row after row
};

/// x [rows, cols], rounded to int16 at most once for each layout that the weights ask for. Its memory is the
/// workspace's: the caller holds the Mark. Rounding many rows is a dispatch of its own.
class PreparedInputs {
 public:
  PreparedInputs(const Context& context, const float* x, int rows, int cols, Workspace& workspace)
      : context_(context), x_(x), rows_(rows), cols_(cols), workspace_(workspace) {}
  /// Only the rows `picked` of x, in that order and as often as they occur.
  PreparedInputs(const Context& context, const float* x, std::span<const int> picked, int cols, Workspace& workspace)
      : context_(context),
        x_(x),
        picked_(picked),
        rows_(static_cast<int>(picked.size())),
        cols_(cols),
        workspace_(workspace) {}

  /// One per row, for products of `inputs` of them and weights of `format`.
  const InputRow* for_weights(const Format& format, int inputs);

 private:
  const InputRow* prepare(ActivationLayout layout);
  const float* row(std::int64_t i) const {
    return x_ + (picked_.empty() ? i : picked_[static_cast<std::size_t>(i)]) * std::int64_t{cols_};
  }

  struct Prepared {
    ActivationLayout layout;
    const InputRow* rows = nullptr;
  };

  const Context& context_;
  const float* x_;
  std::span<const int> picked_;  // empty: all rows
  int rows_;
  int cols_;
  Workspace& workspace_;
  Prepared prepared_[4];  // the projections of one layer have one or two layouts
  int count_ = 0;
};

}  // namespace sluice::kernels
