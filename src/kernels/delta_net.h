// The gated delta net mixer, and the delta rule by itself for its relatives.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/isa.h"
#include "kernels/matrix_view.h"
#include "kernels/recurrent.h"
#include "kernels/workspace.h"

namespace sluice::kernels {

/// The largest key_dim, because normalised queries and keys are on the stack. Whoever reads a config checks it.
inline constexpr int kMaxDeltaKeyDim = 256;

struct DeltaShape {
  int key_heads = 0;
  int value_heads = 0;  // a multiple of key_heads: value head h reads key head h / (value_heads / key_heads)
  int key_dim = 0;      // <= kMaxDeltaKeyDim
  int value_dim = 0;

  int key_width() const { return key_heads * key_dim; }
  int value_width() const { return value_heads * value_dim; }
  /// What is convolved: q [key_width] | k [key_width] | v [value_width].
  int channels() const { return 2 * key_width() + value_width(); }
};

/// Inputs of the delta rule, a row for each of `states`.
struct DeltaInputs {
  std::span<const RecurrentState> states;  // of each row's sequence; conv is not looked at
  const float* qkv;                        // [rows, channels], after the convolution
  std::int64_t qkv_stride;                 // floats from row to row
  const float* beta;                       // [rows, value_heads]
  std::int64_t beta_stride;
  const float* decay;  // [rows, value_heads] or, per channel (Kimi delta attention), [rows, value_heads, key_dim]
  std::int64_t decay_stride;
  bool decay_per_channel;
};

/// The gated delta rule: y [rows, value_width]. Per row and value head, with q = rms(q) / key_dim and
/// k = rms(k) / sqrt(key_dim) (eps 1e-6), and S the memory of the head:
///
///   S *= decay;  S += (beta (v - S k)) (outer) k;  y = S q
///
/// One dispatch.
void delta_rule(const Context& context, const DeltaShape& shape, const DeltaInputs& in, float* y);

/// x = e^(-e^a_log softplus(x + bias)) for `rows` rows of n heads or channels; bias and a_log [n]. One dispatch.
void decay_gates(const Context& context, float* x, int rows, int n, const float* bias, const float* a_log);

/// Weights of a gated delta net layer; all pointers are kept alive by the caller.
struct DeltaNetWeights {
  /// Together they fill q | k | v | z [value_width] | b [value_heads] | a [value_heads], in any order.
  std::span<const ProjectionPart> in_proj;
  CausalConv conv;
  const float* dt_bias = nullptr;  // [value_heads]
  const float* a_log = nullptr;    // [value_heads]
  const float* norm = nullptr;     // [value_dim]
  float norm_eps = 0.0F;
  MatrixView out_proj;  // [hidden, value_width]
};

/// y [rows, hidden] for x [rows, hidden], where row i is of the sequence whose state is states[i]; rows =
/// states.size(). Per row:
///
///   q | k | v | z | b | a = in_proj x;  q | k | v = silu(conv(q | k | v))
///   beta = sigmoid(b);  decay = e^(-e^a_log softplus(a + dt_bias));  o = delta_rule(q, k, v, decay, beta)
///   y = out_proj(norm * rms_norm(o) * silu(z))                the norm per value head
///
/// One dispatch (and one to round the inputs when there are many rows). The bits are those of the same steps in
/// dispatches of their own, and do not depend on the number of rows or threads.
void delta_net(const Context& context, const DeltaShape& shape, const DeltaNetWeights& weights, const float* x,
               std::span<const RecurrentState> states, float* y, Workspace& workspace);

}  // namespace sluice::kernels
