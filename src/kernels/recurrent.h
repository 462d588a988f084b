// What recurrent mixers (Mamba-2, gated delta net) have in common: their state and the causal convolution.
//
// A recurrence runs position by position in prefill as in decode, so a row has the same bits however many rows are
// computed at once. Rows of one sequence stand in order of position; rows of several sequences may follow each other.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "kernels/matrix_view.h"

namespace sluice::kernels {

/// The state of one sequence in one layer, all zero before the first position. The kernels bring it up to date.
struct RecurrentState {
  float* conv;    // [taps - 1, channels]: the last inputs of the convolution, oldest first
  float* memory;  // Mamba-2: [heads, head_dim, state]; delta net: [value_heads, value_dim, key_dim]
};

/// A depthwise causal convolution over time. Checkpoints store the weight as [channels, taps]: it is turned at load.
struct CausalConv {
  int taps = 0;
  int channels = 0;
  const float* weight = nullptr;  // [taps, channels], the newest input last
  const float* bias = nullptr;    // [channels], or null
};

/// One matrix of an input projection.
struct ProjectionPart {
  MatrixView weights;  // [outputs, hidden]
  int column;          // where its outputs begin in a row of projected values
};

/// x [states.size(), channels], rows `stride` floats apart: x = silu(conv(x) + bias), and the inputs join the state of
/// each row's sequence. One dispatch.
void causal_conv(const Context& context, const CausalConv& conv, float* x, std::int64_t stride,
                 std::span<const RecurrentState> states);

}  // namespace sluice::kernels
