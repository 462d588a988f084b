#include "model/synth/fill.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/float16.h"

namespace sluice::model::synth {
namespace {

// Scales of real groups differ by about that much, and the exact width does not matter.
constexpr double kScaleSpread = 0.25;

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie in memory");

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio, odd

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

/// Number `index` of a stream: SplitMix64 started at `stream`, entered anywhere.
constexpr std::uint64_t random(std::uint64_t stream, std::uint64_t index) {
  return mix(stream + (index + 1) * kGolden);
}

/// In [0, 1): the upper 53 bits.
constexpr double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

/// Calls `produce(index)` for each element that the piece touches and stores what lies inside.
template <typename Element, typename Produce>
void fill_elements(std::uint64_t offset, std::span<std::byte> bytes, Produce&& produce) {
  std::uint64_t index = offset / sizeof(Element);
  std::size_t skip = offset % sizeof(Element);  // bytes of the first element that lie before the piece
  while (!bytes.empty()) {
    const Element element = produce(index++);
    const std::size_t count = std::min(sizeof(Element) - skip, bytes.size());
    if (count == sizeof(Element)) {
      std::memcpy(bytes.data(), &element, sizeof(Element));
    } else {
      std::array<std::byte, sizeof(Element)> parts;
      std::memcpy(parts.data(), &element, sizeof(Element));
      std::memcpy(bytes.data(), parts.data() + skip, count);
    }
    bytes = bytes.subspan(count);
    skip = 0;
  }
}

/// Stores numbers as f32, f16 or bf16.
template <typename Number>
void fill_numbers(DType dtype, std::uint64_t offset, std::span<std::byte> bytes, Number&& number) {
  if (dtype == DType::f32) {
    fill_elements<float>(offset, bytes, [&](std::uint64_t i) { return static_cast<float>(number(i)); });
  } else if (dtype == DType::f16) {
    fill_elements<std::uint16_t>(offset, bytes,
                                 [&](std::uint64_t i) { return f32_to_f16(static_cast<float>(number(i))); });
  } else {
    fill_elements<std::uint16_t>(offset, bytes,
                                 [&](std::uint64_t i) { return f32_to_bf16(static_cast<float>(number(i))); });
  }
}

/// `value` as a reader of the tensor sees it.
double rounded(DType dtype, double value) {
  const auto number = static_cast<float>(value);
  if (dtype == DType::f16) return f16_to_f32(f32_to_f16(number));
  if (dtype == DType::bf16) return bf16_to_f32(f32_to_bf16(number));
  return number;
}

double affine_scale(double magnitude, std::uint64_t bits) {
  const double size = magnitude * (1 - kScaleSpread + 2 * kScaleSpread * unit(bits));
  return (bits & 1U) != 0 ? -size : size;  // the lowest bit takes no part in unit()
}

/// Eight codes; all bits set below the sign is NaN, and the next smaller code takes its place.
constexpr std::uint64_t without_nan(std::uint64_t codes) {
  for (unsigned byte = 0; byte < 8; ++byte) {
    const std::uint64_t magnitude = std::uint64_t{0x7f} << (8 * byte);
    if ((codes & magnitude) == magnitude) codes ^= std::uint64_t{1} << (8 * byte);
  }
  return codes;
}

}  // namespace

std::uint64_t random_stream(std::string_view name, std::uint64_t seed) {
  std::uint64_t state = mix(seed + kGolden);
  for (const char c : name) state = mix(state + static_cast<unsigned char>(c) + kGolden);
  return state;
}

void fill_bytes(const Fill& fill, DType dtype, std::uint64_t stream, std::uint64_t offset, std::span<std::byte> bytes) {
  const auto draw = [stream](std::uint64_t i) { return unit(random(stream, i)); };
  switch (fill.kind) {
    case FillKind::uniform:
      return fill_numbers(dtype, offset, bytes, [&](std::uint64_t i) { return fill.a + (fill.b - fill.a) * draw(i); });
    case FillKind::log_of_uniform:
      return fill_numbers(dtype, offset, bytes,
                          [&](std::uint64_t i) { return std::log(fill.a + (fill.b - fill.a) * draw(i)); });
    case FillKind::softplus_inverse_of_log:
      return fill_numbers(dtype, offset, bytes, [&](std::uint64_t i) {
        const double x = fill.a * std::pow(fill.b / fill.a, draw(i));
        return x + std::log(-std::expm1(-x));
      });
    case FillKind::random_bits:
      return fill_elements<std::uint64_t>(offset, bytes, [&](std::uint64_t i) { return random(stream, i); });
    case FillKind::e4m3_codes:
      return fill_elements<std::uint64_t>(offset, bytes,
                                          [&](std::uint64_t i) { return without_nan(random(stream, i)); });
    case FillKind::affine_scales:
      return fill_numbers(dtype, offset, bytes,
                          [&](std::uint64_t i) { return affine_scale(fill.a, random(stream, i)); });
    case FillKind::affine_biases:
      return fill_numbers(dtype, offset, bytes, [&](std::uint64_t i) {
        return -fill.b * rounded(dtype, affine_scale(fill.a, random(stream, i)));
      });
    case FillKind::scale_codes:
      return fill_elements<std::uint8_t>(offset, bytes, [&](std::uint64_t i) {
        return static_cast<std::uint8_t>(static_cast<int>(fill.a) + (draw(i) < fill.b ? 1 : 0));
      });
  }
}

double affine_scale_rms() { return std::sqrt(1 + kScaleSpread * kScaleSpread / 3); }

}  // namespace sluice::model::synth
