#include "kernels/vector_lanes_scalar.h"
// The lanes come first: the canonical arithmetic is written over them.
#include "kernels/attention_canonical.h"
#include "kernels/vector_canonical.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {

const VectorKernels kVectorScalar = {rms_norm_row, add_row,           swiglu_row, exp_row,
                                     softmax_row,  rotate_halves_row, encode_row, attention_tile};

}  // namespace sluice::kernels
