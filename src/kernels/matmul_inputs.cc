#include "kernels/matmul_inputs.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <iterator>

namespace sluice::kernels {
namespace {

/// Numbers that one worker rounds per claim: about as much work as a dispatch costs.
constexpr int kGrain = 16384;

}  // namespace

ActivationLayout layout_for(const Context& context, const Format& format, int inputs) {
  const bool int16 = context.activations == ActivationKind::int16 && has_int16_path(format);
  return int16 ? context.isa.matmul->layout(format, inputs) : ActivationLayout{};
}

RoundedRows::RoundedRows(const Context& context, ActivationLayout layout, int rows, int cols, Workspace& workspace)
    : kernels_(*context.isa.matmul), layout_(layout), cols_(cols) {
  if (layout.group == 0) return;
  assert(cols % layout.group == 0);
  const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
  const std::size_t groups = count / static_cast<std::size_t>(layout.group);
  codes_ = workspace.take<std::int16_t>(count + kActivationSlack).data();
  scales_ = workspace.take<float>(groups).data();
  sums_ = workspace.take<float>(groups).data();
}

void RoundedRows::round(int i, const float* x, int begin, int end) const {
  if (layout_.group == 0) return;
  assert(begin % layout_.group == 0 && end % layout_.group == 0);
  const std::int64_t at = i * cols_ + begin;
  const std::int64_t group = at / layout_.group;
  kernels_.quantize(x + begin, end - begin, layout_, codes_ + at, scales_ + group, sums_ + group);
}

InputRow RoundedRows::row(int i, const float* x) const {
  if (layout_.group == 0) return {x};
  const std::int64_t at = i * cols_;
  return {x, codes_ + at, scales_ + at / layout_.group, sums_ + at / layout_.group};
}

StagedRows::StagedRows(const Context& context, const MatrixView& weights, int rows, int inputs, Workspace& workspace)
    : cols_(weights.cols),
      values_(workspace.take<float>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols_)).data()),
      rounded_(context, layout_for(context, weights.format, inputs), rows, cols_, workspace),
      inputs_(workspace.take<InputRow>(static_cast<std::size_t>(rows)).data()) {
  for (int i = 0; i < rows; ++i) inputs_[i] = rounded_.row(i, row(i));
  if (rounded_.group() == 0) return;
  finished_ = workspace.take<int>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols_ / rounded_.group()));
  std::fill(finished_.begin(), finished_.end(), 0);
}

void StagedRows::finish(int i, int begin, int end) {
  const int group = rounded_.group();
  if (group == 0) return;
  while (begin < end) {
    const int index = begin / group;
    const int stop = std::min(end, (index + 1) * group);
    int& finished = finished_[static_cast<std::size_t>(i * std::int64_t{cols_ / group} + index)];
    // What others wrote before they counted it is seen by whoever counts last.
    const int before = std::atomic_ref(finished).fetch_add(stop - begin, std::memory_order_acq_rel);
    if (before + stop - begin == group) rounded_.round(i, row(i), index * group, (index + 1) * group);
    begin = stop;
  }
}

const InputRow* PreparedInputs::for_weights(const Format& format, int inputs) {
  const ActivationLayout layout = layout_for(context_, format, inputs);
  for (int i = 0; i < count_; ++i) {
    if (prepared_[i].layout == layout) return prepared_[i].rows;
  }
  const InputRow* rows = prepare(layout);
  if (count_ < static_cast<int>(std::size(prepared_))) prepared_[count_++] = {layout, rows};
  return rows;
}

const InputRow* PreparedInputs::prepare(ActivationLayout layout) {
  const auto rows = workspace_.take<InputRow>(static_cast<std::size_t>(rows_));
  const RoundedRows rounded(context_, layout, rows_, cols_, workspace_);
  for (int i = 0; i < rows_; ++i) rows[static_cast<std::size_t>(i)] = rounded.row(i, row(i));
  if (layout.group == 0) return rows.data();
  context_.team.parallel_for(rows_, std::max(1, kGrain / cols_), [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) rounded.round(static_cast<int>(begin), row(begin), 0, cols_);
  });
  return rows.data();
}

}  // namespace sluice::kernels
