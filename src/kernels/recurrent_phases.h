// What the fused recurrent steps do with the columns that a product has just computed.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "kernels/recurrent.h"

namespace sluice::kernels {

/// Columns [begin, end) of a row of projected values.
struct Columns {
  int begin, end;
  bool empty() const { return begin >= end; }
};
Columns overlap(Columns a, Columns b);

/// Columns [begin, end) of causal_conv for all rows; x points to column 0 of the first row.
void convolve_columns(const Context& context, const CausalConv& conv, float* x, std::int64_t stride,
                      std::span<const RecurrentState> states, Columns columns);

}  // namespace sluice::kernels
