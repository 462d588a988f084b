// The two absorbed matrices of latent attention, made from kv_b_proj, in which original files and older MLX ones hold
// both.
#pragma once

#include "kernels/matrix_view.h"
#include "model/dense_loader.h"
#include "model/spec.h"

namespace sluice::model {

/// kv_b_proj is [heads, nope + value, latent]. Of every head, the first rows transposed are embed_q [latent, nope], the
/// others unembed_out [value, latent]; together [heads * latent, nope] and [heads * value, latent].
///
/// Float weights are kept as they are (FP8 becomes bf16). Quantized ones are decoded, rounding to the type of the
/// scales after the product and after the sum, and encoded again with the same bits and group along the new rows, as
/// the reference does; a half whose rows are no multiple of the group stays decoded.
void request_kv_b_split(const MlaSpec& spec, DenseLoader& loader, kernels::MatrixView& embed_q,
                        kernels::MatrixView& unembed_out);

}  // namespace sluice::model
