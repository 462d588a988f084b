#include "kernels/affine_encode.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/float16.h"

namespace sluice::kernels {
namespace {

void store_float(DType type, float value, std::byte* to) {
  if (type == DType::f32) {
    std::memcpy(to, &value, sizeof(value));
    return;
  }
  const std::uint16_t bits = type == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
  std::memcpy(to, &bits, sizeof(bits));
}

}  // namespace

void encode_affine(const Format& format, const float* w, int n, std::byte* codes, std::byte* scales,
                   std::byte* biases) {
  assert(format.mode == Mode::affine && n % format.group == 0);
  const auto most = static_cast<float>((1U << format.bits) - 1);
  const std::size_t scale_bytes = size_of(format.scale_type);
  std::memset(codes, 0, static_cast<std::size_t>(code_row_bytes(format, n)));
  for (int first = 0; first < n; first += format.group) {
    const float* group = w + first;
    const auto [low, high] = std::minmax_element(group, group + format.group);
    float scale = std::max((*high - *low) / most, 1e-7F);
    const bool low_is_edge = std::abs(*low) > std::abs(*high);
    const float edge = low_is_edge ? *low : *high;
    if (!low_is_edge) scale = -scale;
    const float at_edge = std::nearbyint(edge / scale);
    float bias = 0;
    if (at_edge != 0) {
      scale = edge / at_edge;
      bias = edge;
    }
    for (int i = 0; i < format.group; ++i) {
      // In this order NaN becomes 0; the group is NaN all the same, by its scale.
      const float level = std::min(most, std::max(0.0F, std::nearbyint((group[i] - bias) / scale)));
      const auto code = static_cast<unsigned>(level);
      // Codes are a stream of bits, the lowest first; one lies in at most two bytes.
      const auto bit = static_cast<std::size_t>(first + i) * format.bits;
      const unsigned shifted = code << bit % 8;
      codes[bit / 8] |= static_cast<std::byte>(shifted & 0xFFU);
      if (shifted > 0xFFU) codes[bit / 8 + 1] |= static_cast<std::byte>(shifted >> 8);
    }
    const auto index = static_cast<std::size_t>(first / format.group);
    store_float(format.scale_type, scale, scales + index * scale_bytes);
    store_float(format.scale_type, bias, biases + index * scale_bytes);
  }
}

}  // namespace sluice::kernels
