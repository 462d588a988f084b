#include "kernels/matmul_products.h"

#include <algorithm>
#include <cassert>

#include "kernels/matmul_dequantize.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Weight bytes of one claim, at most. What a kernel prefetches behind the end of its claim, a block and a page, is
/// computed by another worker and fetched in vain, and the beginning of a claim is not prefetched: long claims keep
/// that small.
constexpr std::int64_t kClaimBytes = 1024 * 1024;

/// Claims of each worker, at least. (Those at the end are smaller, so that the workers end together.)
constexpr std::int64_t kClaimsPerWorker = 2;

/// Outputs that meet a set of inputs before the next set: both stay in the L2 cache meanwhile.
constexpr int kStripRows = 8 * kRowBlock;

std::int64_t units_of(const Product& product) { return (product.weights->rows + kRowBlock - 1) / kRowBlock; }

/// y[i][r] += bias[row + r].
void add_bias(const MatrixView& weights, int row, int rows, float* const* y, int inputs) {
  float bias[kRowBlock];
  for (int r = 0; r < rows; ++r) {
    bias[r] = load_float(weights.bias + (row + r) * weights.bias_stride, weights.bias_type);
  }
  for (int i = 0; i < inputs; ++i) {
    for (int r = 0; r < rows; ++r) y[i][r] += bias[r];
  }
}

/// y[i][r] = W[row + r] x[i], plus the bias if there is one, for one row block.
void multiply_block(const Context& context, const MatrixView& weights, int row, int rows, const InputRow* x,
                    float* const* y, int inputs) {
  const MatmulKernels& kernels = *context.isa.matmul;
  (x->codes != nullptr ? kernels.int16_block : kernels.f32_block)(weights, row, rows, x, y, inputs);
  if (weights.bias != nullptr) add_bias(weights, row, rows, y, inputs);
}

/// Outputs [row, row + rows), one row block at most, for inputs [first, first + inputs).
void compute_block(const Context& context, const Product& product, int row, int rows, int first, int inputs) {
  float* y[kMaxInputs] = {};
  for (int i = 0; i < inputs; ++i) y[i] = product.y[first + i] + row;
  if (!product.activation.has_value()) {
    multiply_block(context, *product.weights, row, rows, product.x + first, y, inputs);
    return;
  }
  float gate[kMaxInputs * kRowBlock];
  float up[kMaxInputs * kRowBlock];
  float* out[kMaxInputs] = {};
  if (product.gate != nullptr) {
    for (int i = 0; i < inputs; ++i) out[i] = gate + i * rows;
    multiply_block(context, *product.gate, row, rows, product.gate_x + first, out, inputs);
  }
  for (int i = 0; i < inputs; ++i) out[i] = up + i * rows;
  multiply_block(context, *product.weights, row, rows, product.x + first, out, inputs);
  activate(*context.isa.vector, *product.activation, gate, up, std::int64_t{inputs} * rows, up);
  for (int i = 0; i < inputs; ++i) std::copy_n(up + i * rows, rows, y[i]);
}

/// Outputs [begin, end) for all inputs. They are cut into equal pieces, so that all want the layout of the whole.
void compute_rows(const Context& context, const Product& product, int begin, int end) {
  static_assert(kMaxInputs / 2 >= kTileInputs, "half of what does not fit into one piece");
  const int pieces = (product.inputs + kMaxInputs - 1) / kMaxInputs;
  const auto begin_of = [&](int piece) { return static_cast<int>(std::int64_t{product.inputs} * piece / pieces); };
  for (int strip = begin; strip < end; strip += kStripRows) {
    const int stop = std::min(strip + kStripRows, end);
    for (int piece = 0; piece < pieces; ++piece) {
      const int first = begin_of(piece);
      const int inputs = begin_of(piece + 1) - first;
      for (int row = strip; row < stop; row += kRowBlock) {
        compute_block(context, product, row, std::min(kRowBlock, stop - row), first, inputs);
      }
    }
  }
}

}  // namespace

float** output_rows(float* y, int rows, std::int64_t stride, Workspace& workspace) {
  const auto out = workspace.take<float*>(static_cast<std::size_t>(rows));
  for (float*& row : out) {
    row = y;
    y += stride;
  }
  return out.data();
}

ProductPhase::ProductPhase(const Context& context, std::span<const Product> products, Workspace& workspace)
    : context_(context), products_(products), ends_(workspace.take<std::int64_t>(products.size())) {
  std::int64_t units = 0;
  for (std::size_t p = 0; p < products.size(); ++p) ends_[p] = units += units_of(products[p]);
}

std::int64_t ProductPhase::grain() const {
  std::int64_t unit_bytes = 1;
  for (const Product& product : products_) {
    const std::int64_t gate = product.gate == nullptr ? 0 : product.gate->row_stride;
    unit_bytes = std::max(unit_bytes, kRowBlock * (product.weights->row_stride + gate));
  }
  const std::int64_t fair_share = units() / (kClaimsPerWorker * context_.team.size());
  return std::max<std::int64_t>(1, std::min(kClaimBytes / unit_bytes, fair_share));
}

void ProductPhase::compute(std::int64_t begin, std::int64_t end, FunctionRef<void(std::size_t, int, int)> done) const {
  auto p = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin());
  for (; begin < end; ++p) {
    const Product& product = products_[p];
    const std::int64_t start = ends_[p] - units_of(product);
    const std::int64_t stop = std::min(end, ends_[p]);
    const int first = static_cast<int>(begin - start) * kRowBlock;
    const int last = std::min(static_cast<int>(stop - start) * kRowBlock, product.weights->rows);
    compute_rows(context_, product, first, last);
    done(p, first, last);
    begin = stop;
  }
}

void run_products(const Context& context, std::span<const Product> products, Workspace& workspace) {
  if (products.empty()) return;
  const Workspace::Mark mark(workspace);
  const ProductPhase phase(context, products, workspace);
  context.team.parallel_for(phase.units(), phase.grain(),
                            [&](std::int64_t begin, std::int64_t end) { phase.compute(begin, end); });
}

}  // namespace sluice::kernels
