// Weights and activations of the benchmarks: matrices cut out of one large buffer, as experts lie in their slots.
#pragma once

#include <bit>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "base/float16.h"
#include "base/units.h"
#include "kernels/matrix_view.h"

namespace sluice::kernels {

/// Distributions of activations: normal; heavy-tailed, the cube of a normal number; and what relu2 leaves of one.
enum class Inputs : std::uint8_t { normal, heavy, relu2 };

inline std::vector<float> random_inputs(std::size_t n, Inputs inputs = Inputs::normal) {
  std::mt19937 engine(1);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& value : values) {
    value = distribution(engine);
    if (inputs == Inputs::heavy) value *= value * value;
    if (inputs == Inputs::relu2) value = value > 0 ? value * value : 0.0F;
  }
  return values;
}

/// Fills `memory` with random bits.
inline void randomise(std::span<std::byte> memory) {
  std::mt19937_64 engine(2);
  for (std::size_t i = 0; i + 8 <= memory.size(); i += 8) {
    const std::uint64_t word = engine();
    std::memcpy(memory.data() + i, &word, 8);
  }
}

/// Cuts matrices of one shape and format out of a buffer until it is full, each part `shift` bytes behind a cache line.
/// Codes are what the buffer holds; scales, biases and plain weights become ordinary numbers.
class Carver {
 public:
  explicit Carver(std::span<std::byte> memory, std::size_t shift = 1) : memory_(memory), shift_(shift) {}

  static std::size_t bytes(const Format& format, int rows, int cols) {
    return static_cast<std::size_t>(rows * code_row_bytes(format, cols) +
                                    scale_bytes(format, rows, cols) * (has_biases(format) ? 2 : 1));
  }

  bool has_room(const Format& format, int rows, int cols) const {
    return used_ + bytes(format, rows, cols) + 256 <= memory_.size();
  }

  MatrixView cut(const Format& format, int rows, int cols) {
    const auto scale_size = static_cast<std::size_t>(scale_bytes(format, rows, cols));
    std::byte* codes = part(static_cast<std::size_t>(rows * code_row_bytes(format, cols)));
    std::byte* scales = part(scale_size);
    std::byte* biases = part(has_biases(format) ? scale_size : 0);
    // Affine weights are centred, as real ones are: from -1.25 to 1.25 times the spread of a group.
    const float step = 2.5F / static_cast<float>((1 << format.bits) - 1);
    if (format.mode == Mode::plain) fill(codes, static_cast<std::size_t>(rows * cols), format, 1.0F);
    if (format.group != 0) fill(scales, scale_size / size_of(format.scale_type), format, step);
    if (has_biases(format)) fill(biases, scale_size / size_of(format.scale_type), format, -1.25F);
    return make_view(format, rows, cols, codes, scales, biases);
  }

  /// The next `size` bytes.
  std::byte* part(std::size_t size) {
    std::byte* at = memory_.data() + used_ + shift_;
    used_ = round_up(used_ + shift_ + size, 64);
    return at;
  }

 private:
  /// Numbers of changing sign; the signs of scales and biases go together.
  static void fill(std::byte* at, std::size_t count, const Format& format, float value) {
    for (std::size_t i = 0; i < count; ++i) {
      const float x = (i * 0x9E3779B9U & 0x10000U) != 0 ? value : -value;
      const std::uint16_t half = format.scale_type == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x);
      if (format.scale_type == DType::f32) std::memcpy(at + 4 * i, &x, 4);
      if (size_of(format.scale_type) == 2) std::memcpy(at + 2 * i, &half, 2);
      if (format.scale_type == DType::u8) at[i] = std::byte(format.mode == Mode::nvfp4 ? 0x30 : 120);
    }
  }

  std::span<std::byte> memory_;
  std::size_t shift_;
  std::size_t used_ = 0;
};

}  // namespace sluice::kernels
