// Operations on rows of activations: norms, rotary embedding, softmax, top-k, activation functions.
// f32 in, f32 out. exp and what is built on it is one implementation with the same operations in the same order on
// every instruction set (no libm), so its bits do not depend on the machine. NaN stays visible.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/activation.h"
#include "kernels/isa.h"

namespace sluice::kernels {

/// y[row] = weight * x[row] / sqrt(mean(x[row]^2) + eps) for each of `rows` rows of n; weight may be null: all ones.
/// x and y may be the same.
void rms_norm(const Context& context, const float* x, int rows, int n, const float* weight, float eps, float* y);

/// y[row] = weight * (x[row] - mean) / sqrt(variance + eps) + bias for each of `rows` rows of n. x and y may be the
/// same.
void layer_norm(const Context& context, const float* x, int rows, int n, const float* weight, const float* bias,
                float eps, float* y);

/// y += x, n elements.
void add(const Context& context, const float* x, std::int64_t n, float* y);

/// y = activation(gate, up), n elements; y may be gate or up. For relu2 `gate` is not looked at and may be null. The
/// same functions as in gather_activated and moe_fused.
void activate(const Context& context, Activation activation, const float* gate, const float* up, std::int64_t n,
              float* y);

/// y = sigmoid(gate) * up: gates on outputs.
void sigmoid_glu(const Context& context, const float* gate, const float* up, std::int64_t n, float* y);

/// y = sigmoid(x), log(1 + e^x), tanh(x); n elements, y may be x.
void sigmoid(const Context& context, const float* x, std::int64_t n, float* y);
void softplus(const Context& context, const float* x, std::int64_t n, float* y);
void tanh(const Context& context, const float* x, std::int64_t n, float* y);

/// Softmax over n logits in place, on the calling thread alone.
void softmax(const Context& context, float* logits, int n);

/// Which elements of a head rotate together: i and half + i, or 2i and 2i + 1 ("traditional", "interleaved").
enum class RopePairs : unsigned char { halves, adjacent };

/// Cosines and sines of one position: cos_sin[0..half) and cos_sin[half..2*half), angle_i = position * inv_freq[i],
/// times `amplitude` (YaRN stretches what it rotates). Computed in double and rounded once.
void rope_angles(std::int64_t position, std::span<const double> inv_freq, float* cos_sin, double amplitude = 1.0);

/// Rotates the first 2 * half elements of each of `heads` heads, which lie head_dim floats apart, in place. cos_sin as
/// rope_angles wrote it.
void rope(const Context& context, float* x, int heads, int head_dim, const float* cos_sin, int half,
          RopePairs pairs = RopePairs::halves);

/// On equal values, which index wins (checkpoint families differ; docs/arithmetic.md).
enum class TieRule : unsigned char { lower_index, higher_index };

/// Indices of the k largest of `values`, in descending order of value. NaN counts as the smallest value.
/// k <= values.size(); indices has k elements. Allocates nothing.
void top_k(std::span<const float> values, TieRule ties, std::span<int> indices);

/// Index of the largest value, the lowest index on ties; NaN is never chosen unless all are NaN.
int argmax(std::span<const float> values);

}  // namespace sluice::kernels
