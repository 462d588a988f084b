// Finds the tensors of a matrix, in any of the layouts that checkpoints use, and checks their types and shapes.
#pragma once

#include <string>

#include "kernels/format.h"
#include "model/quantization.h"
#include "model/spec.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// The tensors of one matrix, or of a stack of equal matrices.
struct MatrixTensors {
  kernels::Format format;
  const stream::TensorInfo* codes = nullptr;
  const stream::TensorInfo* scales = nullptr;  // null for plain
  const stream::TensorInfo* biases = nullptr;  // affine only
  const stream::TensorInfo* bias = nullptr;    // of the Linear layer: [rows], or [stack, rows]
};

/// Whether a matrix of that path is there, in any layout.
bool has_matrix(const stream::Checkpoint& checkpoint, const std::string& path);

/// Finds PATH, [rows, cols] or, with stack > 0, [stack, rows, cols]:
///
///   PATH.weight [, PATH.scales, PATH.biases]    MLX, in the format that `quantization` gives PATH
///   PATH.weight, PATH.weight_scale_inv          FP8 with a scale per block of 128 x 128
///   PATH.weight_packed, PATH.weight_scale       compressed-tensors, signed 4-bit
///   PATH_blocks, PATH_scales                    mxfp4 as gpt-oss was published
///   PATH                                        plain, without a suffix
///
/// and PATH.bias (PATH_bias in the last two) if the layer has one. `format_path`: the path that the config knows the
/// matrix by, if it is another. Throws Error naming the tensor, what was found and what was expected.
MatrixTensors find_matrix(const stream::Checkpoint& checkpoint, const Quantization& quantization,
                          const LinearSpec& linear, int rows, int cols, int stack = 0,
                          const std::string& format_path = "");

}  // namespace sluice::model
