// The bytes of synthetic tensors: any piece of any tensor from the seed alone, in any order, on any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace sluice::model::synth {

/// What the elements of a tensor are.
enum class FillKind : std::uint8_t {
  uniform,                  // uniform in [a, b]
  log_of_uniform,           // ln x, x uniform in [a, b]
  softplus_inverse_of_log,  // y with softplus(y) = x, ln x uniform in [ln a, ln b]
  random_bits,              // every bit pattern alike: packed integer codes and E2M1 codes
  e4m3_codes,               // random E4M3 codes but the two that stand for NaN
  affine_scales,            // +-a * [0.75, 1.25], both signs alike
  affine_biases,            // -b times the scale of the same group, which has the same `a` and stream
  scale_codes,              // code a, or a + 1 with probability b
};

struct Fill {
  FillKind kind = FillKind::uniform;
  double a = 0;
  double b = 0;
};

/// The stream of random numbers that belongs to a name under a seed: streams of different names are unrelated.
std::uint64_t random_stream(std::string_view name, std::uint64_t seed);

/// Writes bytes [offset, offset + bytes.size()) of a tensor of `dtype` filled from `stream`. Pure.
void fill_bytes(const Fill& fill, DType dtype, std::uint64_t stream, std::uint64_t offset, std::span<std::byte> bytes);

/// Root mean square of what affine_scales draws, in units of `a`.
double affine_scale_rms();

}  // namespace sluice::model::synth
