// Matrix products with quantized weights, dense and gathered over experts.
//
// Canonical arithmetic (docs/arithmetic.md): for one output row r and one input row x, the result depends on nothing
// but the bytes of row r, the values of x and the activation kind. Batch size, threads, row blocks, the path through
// the MoE layer and the instruction set do not change a bit. Every function here is one dispatch, plus one for
// preparing the inputs when there are many rows (two if they are wanted in two layouts).
//
// Shapes are checked by assertion only: views come from tensors checked at load.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/activation.h"
#include "kernels/isa.h"
#include "kernels/matrix_view.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// y = W x (+ bias) for every row of the input, written to y[row * stride + r].
struct Projection {
  const MatrixView* weights;  // [out, cols]
  float* y;                   // [rows, out], rows `stride` floats apart
  std::int64_t stride;        // floats, >= out
};

/// Applies several matrices with equal `cols` to the same x [rows, cols]. One dispatch for all of them.
void matmul(const Context& context, const float* x, int rows, std::span<const Projection> projections,
            Workspace& workspace);

/// One product of a gathered matmul: input row `lhs` through matrix `view` gives output row `out`.
struct GatherJob {
  int view;  // index into the table of views
  int lhs;   // row of x
  int out;   // row of y
};

/// y[out] = table[view] x[lhs] for every job, in one dispatch however many experts are chosen. x [x_rows, cols],
/// y [*, table[..].rows]; all views have equal shapes and formats; jobs are sorted by view; every `out` occurs once.
void gather_matmul(const Context& context, std::span<const MatrixView> table, const float* x, int x_rows,
                   std::span<const GatherJob> jobs, float* y, Workspace& workspace);

/// The untransposed product, y[out] = x[lhs] table[view]: the views are [cols of x, outputs], packed along the outputs.
/// x [*, table[..].rows], y [*, table[..].cols]; otherwise as gather_matmul. For matrices that a checkpoint stores the
/// other way round (MLA's key up-projection in absorbed form, one view per head). Activations are always f32: one chain
/// of fused multiply-adds per output over the rows of the view. A Linear bias belongs to rows: these views have none.
void gather_matmul_untransposed(const Context& context, std::span<const MatrixView> table, const float* x,
                                std::span<const GatherJob> jobs, float* y);

/// Fused gate+up: y[out] = activation(gate[view] x[lhs], up[view] x[lhs]), one dispatch over both matrices; the
/// projections are not written to memory apart. Otherwise as gather_matmul; gate and up have equal shapes. For relu2,
/// which has no gate, `gate` is empty.
void gather_activated(const Context& context, std::span<const MatrixView> gate, std::span<const MatrixView> up,
                      Activation activation, const float* x, int x_rows, std::span<const GatherJob> jobs, float* y,
                      Workspace& workspace);

/// The matrices of one routed expert. The widths `in` and `out` are those of the hidden state, or of a latent one.
struct ExpertViews {
  MatrixView gate;  // [inner, in]; for relu2 a default view
  MatrixView up;    // [inner, in]
  MatrixView down;  // [out, inner]
};

/// Fused MoE layer for one token whose experts are all resident: gate+up -> activation -> down -> weighted sum in one
/// fork-join with phase barriers inside. y [out] = sum over e, in the order given, of weights[e] * expert_e(x).
/// The caller orders experts by ascending id (the canonical order). At least one expert; all have equal shapes and
/// formats, projection by projection.
void moe_fused(const Context& context, std::span<const ExpertViews> experts, std::span<const float> weights,
               Activation activation, const float* x, float* y, Workspace& workspace);

/// y [rows, n] = sum over the `k` expert outputs of each row, in order: y = fma(weight, expert, y) from zero.
/// expert_outputs [rows * k, n] and weights [rows, k] in the canonical order of each row. The same sum as moe_fused.
void weighted_sum(const Context& context, const float* expert_outputs, const float* weights, int rows, int k, int n,
                  float* y);

/// Decodes row `row` of `view` to f32: w [cols]. Embedding look-up, and the oracle of tests. Bit-exact as the
/// checkpoint format defines it (affine: one f32 multiply, one f32 add).
void dequantize_row(const MatrixView& view, int row, float* w);

}  // namespace sluice::kernels
