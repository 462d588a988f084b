// A weight matrix where it lies: in the dense arena or in an expert slot. Owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/format.h"

namespace sluice::kernels {

/// W [rows, cols], row-major, used as y = W x. Rows may start at any byte address: MLX checkpoints are not aligned
/// and expert bytes are read in place, so kernels load without alignment. The bytes must stay put and unchanged
/// while a kernel runs. Up to 3 bytes after the last code of the matrix may be read (never used).
///
/// Strides need not be those of packed rows: where two matrices lie in alternate rows, each is a view with every stride
/// doubled.
struct MatrixView {
  const std::byte* codes = nullptr;   // rows x row_stride bytes
  const std::byte* scales = nullptr;  // scale_stride bytes per row, or per rows_per_scale rows; null for plain
  const std::byte* biases = nullptr;  // as scales; affine only
  std::int64_t row_stride = 0;        // bytes from one row of codes to the next
  std::int64_t scale_stride = 0;      // bytes from one row of scales (and biases) to the next
  int rows = 0;                       // outputs
  int cols = 0;                       // inputs
  Format format;
  int scale_phase = 0;  // where several rows share scales: rows of the matrix from the first that has `scales` to row 0

  // The bias of a Linear layer, y[r] = (W x)[r] + bias[r], or null. Not to be confused with `biases`, which are part of
  // how affine codes decode.
  const std::byte* bias = nullptr;  // [rows], at any address
  DType bias_type = DType::f32;     // f32, f16 or bf16
  std::int64_t bias_stride = 0;     // bytes from one output to the next: the size of one, unless rows are interleaved
};

/// A view of `rows` x `cols` contiguous rows without a Linear bias.
inline MatrixView make_view(const Format& format, int rows, int cols, const std::byte* codes, const std::byte* scales,
                            const std::byte* biases) {
  return {.codes = codes,
          .scales = scales,
          .biases = biases,
          .row_stride = code_row_bytes(format, cols),
          .scale_stride = scale_row_bytes(format, cols),
          .rows = rows,
          .cols = cols,
          .format = format};
}

/// Which row of scales row `row` of `view` has. (Kernels ask for every row of a block: no division where rows have
/// scales of their own.)
constexpr std::int64_t scale_row(const MatrixView& view, std::int64_t row) {
  const int shared = rows_per_scale(view.format);
  return shared == 1 ? row : (view.scale_phase + row) / shared;
}

/// Rows [first, first + count) of `view`.
inline MatrixView row_slice(const MatrixView& view, int first, int count) {
  MatrixView slice = view;
  const std::int64_t scales = scale_row(view, first) * view.scale_stride;
  slice.codes += first * view.row_stride;
  if (slice.scales != nullptr) slice.scales += scales;
  if (slice.biases != nullptr) slice.biases += scales;
  slice.scale_phase = (view.scale_phase + first) % rows_per_scale(view.format);
  if (slice.bias != nullptr) slice.bias += first * view.bias_stride;
  slice.rows = count;
  return slice;
}

}  // namespace sluice::kernels
