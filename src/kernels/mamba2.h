// The Mamba-2 mixer: a state-space recurrence between two projections.
#pragma once

#include <limits>
#include <span>

#include "kernels/isa.h"
#include "kernels/matrix_view.h"
#include "kernels/recurrent.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

struct Mamba2Shape {
  int heads = 0;
  int head_dim = 0;
  int groups = 0;  // heads / groups heads in a row share B and C, and the norm is over each group's outputs
  int state = 0;   // numbers that each channel of a head remembers

  int inner() const { return heads * head_dim; }
  /// What is convolved: x [inner] | B [groups, state] | C [groups, state].
  int channels() const { return inner() + 2 * groups * state; }
  /// Outputs of in_proj: gate [inner] | what is convolved | dt [heads].
  int projected() const { return inner() + channels() + heads; }
};

/// Weights of one layer; all pointers are kept alive by the caller.
struct Mamba2Weights {
  MatrixView in_proj;  // [projected, hidden]
  CausalConv conv;
  const float* dt_bias = nullptr;  // [heads]
  const float* a_log = nullptr;    // [heads]: A = -e^a_log
  const float* d = nullptr;        // [heads]
  float dt_low = 0.0F;             // limits of the time step
  float dt_high = std::numeric_limits<float>::infinity();
  const float* norm = nullptr;  // [inner]
  float norm_eps = 0.0F;
  MatrixView out_proj;  // [hidden, inner]
};

/// y [rows, hidden] for x [rows, hidden], where row i is of the sequence whose state is states[i]; rows =
/// states.size(). Per row:
///
///   gate | xBC | dt = in_proj x;  x | B | C = silu(conv(xBC));  dt = clip(softplus(dt + dt_bias), dt_low, dt_high)
///   h = e^(A dt) h + dt x (outer) B;  o = h C + D x           per head
///   y = out_proj(norm * rms_norm(silu(gate) * o))             the norm per group
///
/// One dispatch (and one to round the inputs when there are many rows). The bits are those of the same steps in
/// dispatches of their own, and do not depend on the number of rows or threads.
void mamba2(const Context& context, const Mamba2Shape& shape, const Mamba2Weights& weights, const float* x,
            std::span<const RecurrentState> states, float* y, Workspace& workspace);

}  // namespace sluice::kernels
