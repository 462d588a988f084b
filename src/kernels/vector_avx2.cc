#include "kernels/vector_lanes_avx2.h"
// The lanes come first: the canonical arithmetic is written over them.
#include "kernels/attention_canonical.h"
#include "kernels/vector_canonical.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {

const VectorKernels kVectorAvx2 = {rms_norm_row, add_row,           swiglu_row, exp_row,
                                   softmax_row,  rotate_halves_row, encode_row, attention_tile};

}  // namespace sluice::kernels
