#include "kernels/matmul_dequantize.h"

#include <bit>
#include <cstring>

#include "base/float16.h"
#include "kernels/matmul.h"

namespace sluice::kernels {
namespace {

constexpr float kE2m1[16] = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                             -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Element `index` of an array of f32, f16 or bf16.
float float_at(const std::byte* array, std::int64_t index, DType type) {
  return load_float(array + static_cast<std::int64_t>(size_of(type)) * index, type);
}

/// Code `index` of a row: bits [index * bits, (index + 1) * bits) of a little-endian bit stream. A code spans two
/// bytes at most, and the second is only read if the code reaches into it.
unsigned code_at(const std::byte* row, std::int64_t index, int bits) {
  const std::int64_t bit = index * bits;
  const std::byte* at = row + bit / 8;
  const int offset = static_cast<int>(bit % 8);
  unsigned window = std::to_integer<unsigned>(at[0]);
  if (offset + bits > 8) window |= std::to_integer<unsigned>(at[1]) << 8;
  return (window >> offset) & ((1U << bits) - 1);
}

/// 1 sign, 4 exponent and 3 mantissa bits. As in MLX, 0x7F and 0xFF are +-480, not NaN.
float e4m3(unsigned code) {
  const unsigned exponent = (code >> 3) & 15U;
  const auto mantissa = static_cast<float>(code & 7U);
  const float magnitude =
      exponent == 0 ? mantissa * 0x1p-9F : (1.0F + mantissa / 8) * std::bit_cast<float>((exponent + 120U) << 23);
  return (code & 0x80U) != 0 ? -magnitude : magnitude;
}

/// 2^(code - 127). Code 0 is a denormal f32; code 255 is infinity, as in MLX.
float e8m0(unsigned code) { return std::bit_cast<float>(code == 0 ? 0x00400000U : code << 23); }

}  // namespace

float load_float(const std::byte* at, DType type) {
  switch (type) {
    case DType::f16:
      return f16_to_f32(load<std::uint16_t>(at));
    case DType::bf16:
      return bf16_to_f32(load<std::uint16_t>(at));
    default:
      return load<float>(at);
  }
}

int integer_weight(const MatrixView& view, int row, int col) {
  const unsigned code = code_at(view.codes + row * view.row_stride, col, view.format.bits);
  return is_affine(view.format) ? static_cast<int>(code) : static_cast<int>(2 * kE2m1[code]);
}

float group_scale(const MatrixView& view, int row, int group) {
  const std::byte* scales = view.scales + scale_row(view, row) * view.scale_stride;
  switch (view.format.mode) {
    case Mode::mxfp4:
    case Mode::mxfp8:
      return e8m0(std::to_integer<unsigned>(scales[group]));
    case Mode::nvfp4:
      return e4m3(std::to_integer<unsigned>(scales[group]));
    case Mode::affine:
    case Mode::symmetric:
    case Mode::fp8_block:
    case Mode::plain:
      break;
  }
  return float_at(scales, group, view.format.scale_type);
}

float group_bias(const MatrixView& view, int row, int group) {
  if (view.format.mode == Mode::symmetric) return kSymmetricBias * group_scale(view, row, group);
  return float_at(view.biases + row * view.scale_stride, group, view.format.scale_type);
}

void dequantize(const MatrixView& view, int row, int first, int count, float* w) {
  const Format& format = view.format;
  const std::byte* codes = view.codes + row * view.row_stride;
  for (int i = 0; i < count; ++i) {
    const int col = first + i;
    if (format.mode == Mode::plain) {
      w[i] = float_at(codes, col, format.scale_type);
      continue;
    }
    const int group = col / format.group;
    const unsigned code = code_at(codes, col, format.bits);
    const float scale = group_scale(view, row, group);
    switch (format.mode) {
      case Mode::affine:
      case Mode::symmetric:
        w[i] = scale * static_cast<float>(code) + group_bias(view, row, group);
        break;
      case Mode::fp8_block:
        w[i] = bf16_to_f32(f32_to_bf16(e4m3(code) * scale));
        break;
      default:
        w[i] = (format.bits == 4 ? kE2m1[code] : e4m3(code)) * scale;
    }
  }
}

void dequantize_row(const MatrixView& view, int row, float* w) { dequantize(view, row, 0, view.cols, w); }

}  // namespace sluice::kernels
