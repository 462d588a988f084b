// How the numbers of a weight matrix are stored: quantization mode, bits, group size, scale type.
// Layout and encodings: docs/checkpoint-format.md (MLX quantized safetensors).
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace sluice::kernels {

/// affine: w = scale * q + bias, q unsigned, scale and bias of `scale_type` per group.
/// symmetric: the same with bias = -8 * scale, which is not stored: w = scale * (q - 8), 4 bits (compressed-tensors).
/// mxfp4, nvfp4: w = E2M1(code) * scale, scale byte E8M0 (group 32) or E4M3 (group 16).
/// mxfp8: w = E4M3(code) * E8M0(scale byte), group 32.
/// fp8_block: w = bf16(E4M3(code) * scale), one scale per 128 x 128 weights.
/// plain: no quantization; elements of `scale_type` (f32, f16 or bf16).
enum class Mode : std::uint8_t { plain, affine, symmetric, mxfp4, nvfp4, mxfp8, fp8_block };

/// The storage format of one matrix. Small enough to pass by value; equal formats read bytes the same way.
struct Format {
  Mode mode = Mode::plain;
  std::uint8_t bits = 0;          // of one code: affine 2,3,4,5,6,8; fp4 4; fp8 8; plain: 8 * size of element
  std::uint16_t group = 0;        // columns that share one scale; 0 for plain
  DType scale_type = DType::f32;  // affine, symmetric, fp8_block: of the scales; plain: of the elements; else u8

  friend bool operator==(const Format&, const Format&) = default;
};

constexpr Format plain_format(DType element) {
  return {Mode::plain, static_cast<std::uint8_t>(8 * size_of(element)), 0, element};
}

/// Bytes of one row of `cols` codes. Rows are padded to nothing: cols * bits is a multiple of 32 for modes below 8
/// bits.
constexpr std::int64_t code_row_bytes(const Format& format, std::int64_t cols) { return cols * format.bits / 8; }

/// Bytes of one row of scales (and of biases, where the mode has them); 0 for plain. Only fp8_block may have a last
/// group that is not full.
constexpr std::int64_t scale_row_bytes(const Format& format, std::int64_t cols) {
  if (format.group == 0) return 0;
  return (cols + format.group - 1) / format.group * static_cast<std::int64_t>(size_of(format.scale_type));
}

/// Rows of weights that share one row of scales.
constexpr int rows_per_scale(const Format& format) { return format.mode == Mode::fp8_block ? 128 : 1; }

/// Bytes of the scales of a whole matrix (and of its biases, where the mode has them).
constexpr std::int64_t scale_bytes(const Format& format, std::int64_t rows, std::int64_t cols) {
  const std::int64_t shared = rows_per_scale(format);
  return (rows + shared - 1) / shared * scale_row_bytes(format, cols);
}

constexpr bool has_biases(const Format& format) { return format.mode == Mode::affine; }

/// Whether weights are scale * q + bias.
constexpr bool is_affine(const Format& format) { return format.mode == Mode::affine || format.mode == Mode::symmetric; }

/// The bias of a symmetric group in units of its scale: minus the code that stands for zero.
inline constexpr float kSymmetricBias = -8.0F;

/// Empty if a matrix with `cols` columns may have this format, else what is wrong with it, for an error message.
/// Kernels assume a format that passed.
std::string format_problem(const Format& format, std::int64_t cols);

/// "affine 4-bit g64 bf16", "mxfp4", "bf16": for people.
std::string to_string(const Format& format);

}  // namespace sluice::kernels
