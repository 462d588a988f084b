// What an instruction set provides for matrix products. matmul.cc splits the work; these functions compute.
//
// Included by files that are compiled for one instruction set: plain structs and declarations only.
#pragma once

#include <cstdint>

#include "kernels/matrix_view.h"

namespace sluice::kernels {

/// Outputs computed together. A multiple of the vector lanes of f32, so that one vector holds one number per output.
inline constexpr int kRowBlock = 8;

/// Input rows of one call at most: enough that unpacking the weights once for all of them costs nothing, few enough
/// that they stay in the L2 cache while the row blocks of a task pass by.
inline constexpr int kMaxInputs = 32;

/// From this many input rows on, a kernel may unpack a row block once for all of them; below, for each one anew.
inline constexpr int kTileInputs = 4;

/// The largest int16 activation: 127 * 256 + 127, so that every one is 256 times a signed byte plus a signed byte.
/// (With 32767 the upper byte would not fit, and products of bytes would be out of reach.)
inline constexpr float kActivationMax = 32639.0F;

/// How int16 activations lie in memory for weights of some format. Groups follow each other; inside a group,
/// element j * planes + p is at p * (group / planes) + j: the codes that share one machine word fall into different
/// planes, so that the weights can be used as they are stored. planes == 1 is the natural order. Split, a group is its
/// upper bytes in that order and then its lower bytes: x = 256 * upper + lower, both signed.
struct ActivationLayout {
  int group = 0;  // columns that share one activation scale, the group of the weights
  int planes = 1;
  bool split = false;

  friend bool operator==(const ActivationLayout&, const ActivationLayout&) = default;
};

/// One input row. For the int16 path `codes`, `scales` and `sums` are set, for the f32 path `x`.
struct InputRow {
  const float* x = nullptr;             // [cols]
  const std::int16_t* codes = nullptr;  // [cols], laid out as MatmulKernels::layout says
  const float* scales = nullptr;        // [cols / group], d_g
  const float* sums = nullptr;          // [cols / group], sum of the codes of a group (below 2^24: exact)
};

/// Codes that may be read (never used) behind the last code of an InputRow.
inline constexpr int kActivationSlack = 128;

struct MatmulKernels {
  /// The layout that int16_block wants of `inputs` rows for weights of `format`, for which has_int16_path holds. Below
  /// kTileInputs it may be another one than from there on.
  ActivationLayout (*layout)(const Format& format, int inputs);

  /// Rounds x [cols] to int16 codes with one scale per group (docs/arithmetic.md).
  void (*quantize)(const float* x, int cols, ActivationLayout layout, std::int16_t* codes, float* scales, float* sums);

  /// y[i][r] = W[row + r] . input i, for 0 <= r < rows <= kRowBlock and 0 <= i < inputs <= kMaxInputs.
  /// int16_block: affine, symmetric and fp4 weights; f32_block: every format.
  void (*int16_block)(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);
  void (*f32_block)(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs);

  /// Columns [first, first + count) of one row as f32, bit-exact: w [count]. `first` is a multiple of the group.
  void (*decode)(const MatrixView& weights, int row, int first, int count, float* w);

  /// y = fma(weight, x, y), n elements.
  void (*weighted_add)(float weight, const float* x, std::int64_t n, float* y);
};

extern const MatmulKernels kMatmulScalar;
extern const MatmulKernels kMatmulAvx2;
extern const MatmulKernels kMatmulAvx512;  // needs AVX-512 F, BW, DQ, VL, VBMI and VNNI
extern const MatmulKernels kMatmulNeon;    // AArch64

/// Whether int16 activations are defined for weights of this format; else only the f32 path is.
constexpr bool has_int16_path(const Format& format) {
  return is_affine(format) || format.mode == Mode::mxfp4 || format.mode == Mode::nvfp4;
}

}  // namespace sluice::kernels
