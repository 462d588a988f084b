#include "kernels/recurrent_phases.h"

#include <algorithm>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
Columns overlap(Columns a, Columns b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

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
