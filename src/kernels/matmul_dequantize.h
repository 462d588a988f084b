// Single numbers of a weight matrix, decoded the plain way: the reference that the fast kernels are tested against.
// The encodings are those of docs/checkpoint-format.md.
#pragma once

#include "kernels/matrix_view.h"

namespace sluice::kernels {

/// The f32, f16 or bf16 number at any address.
float load_float(const std::byte* at, DType type);

/// Integer weight of row `row`, column `col`: affine and symmetric, the code; mxfp4 and nvfp4, twice the E2M1 value.
int integer_weight(const MatrixView& view, int row, int col);

/// Scale and bias of a group of columns (the bias of affine and symmetric only).
float group_scale(const MatrixView& view, int row, int group);
float group_bias(const MatrixView& view, int row, int group);

/// Columns [first, first + count) of row `row` as f32, for every format: w [count].
void dequantize(const MatrixView& view, int row, int first, int count, float* w);

}  // namespace sluice::kernels
