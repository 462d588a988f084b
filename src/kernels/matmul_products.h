// How one dispatch is shared out: any number of matrix products, cut into row blocks.
#pragma once

#include <optional>
#include <span>

#include "kernels/activation.h"
#include "kernels/isa.h"
#include "kernels/matmul_kernels.h"
#include "kernels/matrix_view.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// y[i] = weights x[i], or activation(gate gate_x[i], weights x[i]) if there is an activation.
struct Product {
  const MatrixView* weights = nullptr;
  const InputRow* x = nullptr;  // [inputs]
  float* const* y = nullptr;    // [inputs], each to [weights->rows]
  int inputs = 0;
  std::optional<Activation> activation = std::nullopt;
  const MatrixView* gate = nullptr;  // of the same shape as `weights`; null without an activation that is gated
  const InputRow* gate_x = nullptr;  // x in the layout of `gate`
};

/// y[i][r] = W[row + r] x[i], plus bias[row + r] if there is one, for one row block; rows <= kRowBlock, inputs <=
/// kMaxInputs, all inputs prepared for the format of `weights`.
void multiply_block(const Context& context, const MatrixView& weights, int row, int rows, const InputRow* x,
                    float* const* y, int inputs);

/// How many of `units` parts of some work, each of which reads `unit_bytes` of weights that follow those of the part
/// before, one worker claims at once.
std::int64_t claim_grain(const Context& context, std::int64_t units, std::int64_t unit_bytes);

/// Computes all products in one dispatch. Neither the cut nor the order changes a bit of the result.
void run_products(const Context& context, std::span<const Product> products, Workspace& workspace);

}  // namespace sluice::kernels
