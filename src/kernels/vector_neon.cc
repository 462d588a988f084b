#include "kernels/vector_lanes_neon.h"
// The lanes come first: the canonical arithmetic is written over them.
#include "kernels/canonical_table.h"

namespace sluice::kernels {

const VectorKernels kVectorNeon = kCanonicalTable;

}  // namespace sluice::kernels
