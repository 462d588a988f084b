// Rounds weights to the affine format, as the reference does on a CPU.
#pragma once

#include <cstddef>

#include "kernels/format.h"

namespace sluice::kernels {

/// Encodes one row w [n] of finite values: codes [code_row_bytes], scales and biases [scale_row_bytes] at any address.
/// `format` is affine and legal for n. Per group, in f32, with q in 0..m, m = 2^bits - 1:
///
///   s = max((max w - min w) / m, 1e-7); the end of larger magnitude is the edge; s < 0 if that is max w
///   q0 = round(edge / s); if q0 != 0: s = edge / q0, b = edge; else b = 0
///   q = clamp(round((w - b) / s), 0, m); s and b are rounded to the scale type only when stored
void encode_affine(const Format& format, const float* w, int n, std::byte* codes, std::byte* scales, std::byte* biases);

}  // namespace sluice::kernels
