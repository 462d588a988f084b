#include <cassert>
#include <cmath>

#include "kernels/vector.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {

void rope_angles(std::int64_t position, std::span<const double> inv_freq, float* cos_sin, double amplitude) {
  const std::size_t half = inv_freq.size();
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * inv_freq[i];
    cos_sin[i] = static_cast<float>(amplitude * std::cos(angle));
    cos_sin[half + i] = static_cast<float>(amplitude * std::sin(angle));
  }
}

void rope(const Context& context, float* x, int heads, int head_dim, const float* cos_sin, int half, RopePairs pairs) {
  assert(2 * half <= head_dim);
  const VectorKernels& vector = *context.isa.vector;
  const auto rotate = pairs == RopePairs::halves ? vector.rotate_halves : vector.rotate_adjacent;
  for (int head = 0; head < heads; ++head) rotate(x + std::int64_t{head} * head_dim, cos_sin, half);
}

}  // namespace sluice::kernels
