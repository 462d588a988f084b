#include "kernels/matmul_inputs.h"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace sluice::kernels {
namespace {

/// Numbers that one worker rounds per claim: about as much work as a dispatch costs.
constexpr int kGrain = 16384;

}  // namespace

bool uses_int16(const Context& context, const Format& format) {
  return context.activations == ActivationKind::int16 && has_int16_path(format);
}

const InputRow* PreparedInputs::for_weights(const Format& format) {
  // Group 0 stands for the f32 path, which takes the rows as they are.
  const ActivationLayout layout =
      uses_int16(context_, format) ? context_.isa.matmul->layout(format) : ActivationLayout{};
  for (int i = 0; i < count_; ++i) {
    if (prepared_[i].layout == layout) return prepared_[i].rows;
  }
  const InputRow* rows = prepare(layout);
  if (count_ < static_cast<int>(std::size(prepared_))) prepared_[count_++] = {layout, rows};
  return rows;
}

const InputRow* PreparedInputs::prepare(ActivationLayout layout) {
  const auto rows = workspace_.take<InputRow>(static_cast<std::size_t>(rows_));
  for (int i = 0; i < rows_; ++i) rows[static_cast<std::size_t>(i)] = {row(i)};
  if (layout.group == 0) return rows.data();

  assert(cols_ % layout.group == 0);
  const std::int64_t groups = cols_ / layout.group;
  auto* codes =
      workspace_.take<std::int16_t>(static_cast<std::size_t>(std::int64_t{rows_} * cols_ + kActivationSlack)).data();
  auto* scales = workspace_.take<float>(static_cast<std::size_t>(rows_ * groups)).data();
  auto* sums = workspace_.take<float>(static_cast<std::size_t>(rows_ * groups)).data();
  context_.team.parallel_for(rows_, std::max(1, kGrain / cols_), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* x = row(i);
      context_.isa.matmul->quantize(x, cols_, layout, codes + i * cols_, scales + i * groups, sums + i * groups);
      rows[static_cast<std::size_t>(i)] = {x, codes + i * cols_, scales + i * groups, sums + i * groups};
    }
  });
  return rows.data();
}

}  // namespace sluice::kernels
