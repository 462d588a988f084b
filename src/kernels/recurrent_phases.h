// Parts of the fused recurrent steps: matrix products as phases of a larger dispatch, and the rows between them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "kernels/matmul_kernels.h"
#include "kernels/recurrent.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// Columns [begin, end) of a row of projected values.
struct Columns {
  int begin, end;
  bool empty() const { return begin >= end; }
};
Columns overlap(Columns a, Columns b);

/// Products of the same input rows, cut into claims; a claim is some columns of every row.
class ProductPhase {
 public:
  struct Part {
    const MatrixView* weights;
    const InputRow* x;  // [rows], prepared for these weights
    int column;         // of its first output
  };

  /// y [rows, columns], rows `stride` floats apart. Takes memory that the caller's Mark gives back.
  ProductPhase(const Context& context, std::span<const Part> parts, int rows, float* y, std::int64_t stride,
               Workspace& workspace);

  std::int64_t claims() const { return static_cast<std::int64_t>(claims_.size()); }

  /// Computes one claim and says which columns it was.
  Columns compute(std::int64_t claim) const;

 private:
  struct Claim {
    const Part* part;
    int begin, end;  // rows of the weights
  };

  const Context& context_;
  int rows_;
  float* y_;
  std::int64_t stride_;
  std::span<Part> parts_;
  std::span<Claim> claims_;
};

/// Input rows of a product that an earlier phase of the same dispatch computes, piece by piece.
class StagedRows {
 public:
  /// Rows for `weights`; takes memory that the caller's Mark gives back.
  StagedRows(const Context& context, const MatrixView& weights, int rows, Workspace& workspace);

  float* row(int i) { return values_ + std::int64_t{i} * cols_; }

  /// Columns that are rounded together: pieces are whole multiples of this.
  int unit() const { return layout_.group == 0 ? 1 : layout_.group; }

  /// Says that columns [begin, end) of row i hold their values.
  void finish(int i, int begin, int end);

  /// [rows], complete once every piece is finished.
  const InputRow* inputs() const { return inputs_.data(); }

 private:
  const Context& context_;
  int cols_;
  ActivationLayout layout_;  // group 0: the weights take f32
  float* values_;
  std::int16_t* codes_ = nullptr;
  float* scales_ = nullptr;
  float* sums_ = nullptr;
  std::span<InputRow> inputs_;
};

/// Columns [begin, end) of causal_conv for all rows; x points to column 0 of the first row.
void convolve_columns(const Context& context, const CausalConv& conv, float* x, std::int64_t stride,
                      std::span<const RecurrentState> states, Columns columns);

}  // namespace sluice::kernels
