// What stands between the first and the second projection of a feed-forward block.
#pragma once

#include <cstdint>

namespace sluice::kernels {

/// The gated ones join gate and up; relu2 has no gate. vector.h has them as functions of rows.
enum class Activation : std::uint8_t {
  swiglu,          // silu(gate) * up
  gelu_tanh_glu,   // gelu(gate) * up, the tanh form
  clamped_swiglu,  // g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clip(up, -7, 7): the experts of gpt-oss
  relu2,           // max(up, 0)^2
};

constexpr bool is_gated(Activation activation) { return activation != Activation::relu2; }

}  // namespace sluice::kernels
