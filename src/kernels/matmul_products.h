// How one dispatch, or a phase of one, is shared out: any number of matrix products, cut into row blocks.
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

/// The rows of an output [rows, *], `stride` floats apart, as a Product takes them.
float** output_rows(float* y, int rows, std::int64_t stride, Workspace& workspace);

/// Products as one phase of a dispatch, cut into units of kRowBlock outputs of one product, or what is left of it.
/// Neither the cut nor the order changes a bit of the result.
class ProductPhase {
 public:
  /// `products` stay where they are while the phase is used; memory is the workspace's, and the caller holds the Mark.
  ProductPhase(const Context& context, std::span<const Product> products, Workspace& workspace);

  std::int64_t units() const { return ends_.empty() ? 0 : ends_.back(); }
  /// How many units, whose weights follow each other, a worker claims at once.
  std::int64_t grain() const;

  /// Computes units [begin, end). done(p, first, last) follows each stretch of one product: outputs [first, last) of
  /// products[p] have their values, for all inputs.
  void compute(std::int64_t begin, std::int64_t end,
               FunctionRef<void(std::size_t product, int first, int last)> done) const;
  void compute(std::int64_t begin, std::int64_t end) const {
    compute(begin, end, [](std::size_t, int, int) {});
  }

 private:
  const Context& context_;
  std::span<const Product> products_;
  std::span<std::int64_t> ends_;  // ends_[p]: units of products 0..p
};

/// Computes all products in one dispatch.
void run_products(const Context& context, std::span<const Product> products, Workspace& workspace);

}  // namespace sluice::kernels
