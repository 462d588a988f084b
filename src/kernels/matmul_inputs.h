// The input rows of a matrix product in the form that the kernels want.
#pragma once

#include <span>

#include "kernels/isa.h"
#include "kernels/matmul_kernels.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// Whether weights of `format` meet int16 activations in this context; else f32.
bool uses_int16(const Context& context, const Format& format);

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

  /// One per row, for weights of `format`.
  const InputRow* for_weights(const Format& format);

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
