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

/// Claims of each worker, at least: so that the workers end together.
constexpr std::int64_t kClaimsPerWorker = 4;

/// Row blocks that meet a set of inputs before the next set: both stay in the L2 cache meanwhile.
constexpr int kStrip = 8;

int row_blocks(const MatrixView& weights) { return (weights.rows + kRowBlock - 1) / kRowBlock; }

/// One row block of a product for inputs [first, first + inputs).
void compute_block(const Context& context, const Product& product, int block, int first, int inputs) {
  const int row = block * kRowBlock;
  const int rows = std::min(kRowBlock, product.weights->rows - row);
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

void compute_blocks(const Context& context, const Product& product, int begin, int end) {
  for (int strip = begin; strip < end; strip += kStrip) {
    for (int first = 0; first < product.inputs; first += kMaxInputs) {
      const int inputs = std::min(kMaxInputs, product.inputs - first);
      for (int block = strip; block < std::min(strip + kStrip, end); ++block) {
        compute_block(context, product, block, first, inputs);
      }
    }
  }
}

}  // namespace

void multiply_block(const Context& context, const MatrixView& weights, int row, int rows, const InputRow* x,
                    float* const* y, int inputs) {
  const MatmulKernels& kernels = *context.isa.matmul;
  (x->codes != nullptr ? kernels.int16_block : kernels.f32_block)(weights, row, rows, x, y, inputs);
  if (weights.bias != nullptr) add_bias(weights, row, rows, y, inputs);
}

std::int64_t claim_grain(const Context& context, std::int64_t units, std::int64_t unit_bytes) {
  const std::int64_t fair_share = units / (kClaimsPerWorker * context.team.size());
  return std::max<std::int64_t>(1, std::min(kClaimBytes / std::max<std::int64_t>(1, unit_bytes), fair_share));
}

void run_products(const Context& context, std::span<const Product> products, Workspace& workspace) {
  if (products.empty()) return;
  const Workspace::Mark mark(workspace);
  const auto ends = workspace.take<std::int64_t>(products.size());  // ends[i]: blocks of products 0..i
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < products.size(); ++i) ends[i] = blocks += row_blocks(*products[i].weights);

  const std::int64_t grain = claim_grain(context, blocks, products[0].weights->row_stride * kRowBlock);
  context.team.parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    auto i = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (; begin < end; ++i) {
      const std::int64_t first = ends[i] - row_blocks(*products[i].weights);
      const std::int64_t stop = std::min(end, ends[i]);
      compute_blocks(context, products[i], static_cast<int>(begin - first), static_cast<int>(stop - first));
      begin = stop;
    }
  });
}

}  // namespace sluice::kernels
