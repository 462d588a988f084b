// The table of functions that every instruction set makes of the canonical text; included after vector_lanes_*.h.
#pragma once

#include "kernels/attention_canonical.h"
#include "kernels/index_canonical.h"
#include "kernels/recurrent_canonical.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

constexpr VectorKernels kCanonicalTable = {
    .rms_norm = rms_norm_row,
    .layer_norm = layer_norm_row,
    .add = add_row,
    .exp = exp_row,
    .sigmoid = sigmoid_row,
    .softplus = softplus_row,
    .tanh = tanh_row,
    .relu2 = relu2_row,
    .swiglu = swiglu_row,
    .gelu_tanh_glu = gelu_tanh_glu_row,
    .clamped_swiglu = clamped_swiglu_row,
    .sigmoid_glu = sigmoid_glu_row,
    .softmax = softmax_row,
    .rotate_halves = rotate_halves_row,
    .rotate_adjacent = rotate_adjacent_row,
    .encode = encode_row,
    .attention = attention_tile,
    .attention_block = attention_block,
    .attention_begin = attention_begin,
    .attention_merge = attention_merge,
    .attention_end = attention_end,
    .index_block = index_block,
    .conv_silu = conv_silu_row,
    .decay = decay_row,
    .ssm_step = ssm_step,
    .delta_step = delta_step,
};

}  // namespace
}  // namespace sluice::kernels
