#include "kernels/vector_lanes_avx2.h"
// The lanes come first: the canonical arithmetic is written over them.
#include "kernels/canonical_table.h"

namespace sluice::kernels {

const VectorKernels kVectorAvx2 = kCanonicalTable;

}  // namespace sluice::kernels
