#include "kernels/recurrent_phases.h"

#include <algorithm>
#include <cassert>

#include "kernels/matmul_inputs.h"
#include "kernels/matmul_products.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Rows of weights in one claim, a multiple of kRowBlock.
int claim_rows(const Context& context, std::span<const ProductPhase::Part> parts) {
  std::int64_t rows = 0;
  std::int64_t widest = 1;
  for (const ProductPhase::Part& part : parts) {
    rows += part.weights->rows;
    widest = std::max(widest, part.weights->row_stride);
  }
  return kRowBlock * static_cast<int>(claim_grain(context, rows / kRowBlock, widest * kRowBlock));
}

}  // namespace

Columns overlap(Columns a, Columns b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

ProductPhase::ProductPhase(const Context& context, std::span<const Part> parts, int rows, float* y, std::int64_t stride,
                           Workspace& workspace)
    : context_(context), rows_(rows), y_(y), stride_(stride), parts_(workspace.take<Part>(parts.size())) {
  std::copy(parts.begin(), parts.end(), parts_.begin());
  const int step = claim_rows(context, parts);
  std::size_t count = 0;
  for (const Part& part : parts_) count += static_cast<std::size_t>((part.weights->rows + step - 1) / step);
  claims_ = workspace.take<Claim>(count);
  auto next = claims_.begin();
  for (const Part& part : parts_) {
    for (int row = 0; row < part.weights->rows; row += step) {
      *next++ = {&part, row, std::min(row + step, part.weights->rows)};
    }
  }
}

Columns ProductPhase::compute(std::int64_t claim) const {
  const auto [part, begin, end] = claims_[static_cast<std::size_t>(claim)];
  for (int first = 0; first < rows_; first += kMaxInputs) {
    const int inputs = std::min(kMaxInputs, rows_ - first);
    for (int row = begin; row < end; row += kRowBlock) {
      float* y[kMaxInputs] = {};
      for (int i = 0; i < inputs; ++i) y[i] = y_ + (first + i) * stride_ + part->column + row;
      multiply_block(context_, *part->weights, row, std::min(kRowBlock, end - row), part->x + first, y, inputs);
    }
  }
  return {part->column + begin, part->column + end};
}

StagedRows::StagedRows(const Context& context, const MatrixView& weights, int rows, Workspace& workspace)
    : context_(context), cols_(weights.cols), inputs_(workspace.take<InputRow>(static_cast<std::size_t>(rows))) {
  const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols_);
  values_ = workspace.take<float>(count).data();
  if (uses_int16(context, weights.format)) {
    layout_ = context.isa.matmul->layout(weights.format);
    assert(cols_ % layout_.group == 0);
    const std::size_t groups = count / static_cast<std::size_t>(layout_.group);
    codes_ = workspace.take<std::int16_t>(count + kActivationSlack).data();
    scales_ = workspace.take<float>(groups).data();
    sums_ = workspace.take<float>(groups).data();
  }
  for (int i = 0; i < rows; ++i) {
    const std::int64_t at = std::int64_t{i} * cols_;
    const std::int64_t group = at / unit();
    inputs_[static_cast<std::size_t>(i)] = layout_.group == 0
                                               ? InputRow{values_ + at}
                                               : InputRow{values_ + at, codes_ + at, scales_ + group, sums_ + group};
  }
}

void StagedRows::finish(int i, int begin, int end) {
  if (layout_.group == 0) return;
  assert(begin % layout_.group == 0 && end % layout_.group == 0);
  const std::int64_t at = std::int64_t{i} * cols_ + begin;
  const std::int64_t group = at / layout_.group;
  context_.isa.matmul->quantize(values_ + at, end - begin, layout_, codes_ + at, scales_ + group, sums_ + group);
}

void convolve_columns(const Context& context, const CausalConv& conv, float* x, std::int64_t stride,
                      std::span<const RecurrentState> states, Columns columns) {
  if (columns.empty()) return;
  const float* bias = conv.bias == nullptr ? nullptr : conv.bias + columns.begin;
  for (std::size_t i = 0; i < states.size(); ++i) {
    float* row = x + static_cast<std::int64_t>(i) * stride + columns.begin;
    context.isa.vector->conv_silu(conv.weight + columns.begin, bias, conv.taps, conv.channels,
                                  states[i].conv + columns.begin, row, columns.end - columns.begin, row);
  }
}

void causal_conv(const Context& context, const CausalConv& conv, float* x, std::int64_t stride,
                 std::span<const RecurrentState> states) {
  if (states.empty()) return;
  // Channels for which a dispatch pays: each takes tens of nanoseconds with its exp, eight at a time.
  constexpr std::int64_t kChannelsPerChunk = 2048;
  const std::int64_t grain = std::max<std::int64_t>(64, kChannelsPerChunk / static_cast<std::int64_t>(states.size()));
  context.team.parallel_for(conv.channels, grain, [&](std::int64_t begin, std::int64_t end) {
    convolve_columns(context, conv, x, stride, states, {static_cast<int>(begin), static_cast<int>(end)});
  });
}

}  // namespace sluice::kernels
