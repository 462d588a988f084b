// Which instruction set computes. Each is a table of functions from source files compiled with their own flags; one
// is chosen at start-up, and SLUICE_ISA forces one.
#pragma once

#include <span>
#include <string_view>

#include "kernels/thread_team.h"

namespace sluice::kernels {

struct MatmulKernels;  // matmul_kernels.h: quantized and plain dot products
struct VectorKernels;  // vector_kernels.h: norms, activations, softmax, attention inner loops

struct Isa {
  std::string_view name;  // "scalar", "avx2", "avx512", "neon"
  const MatmulKernels* matmul;
  const VectorKernels* vector;
  bool (*supported)();  // whether this machine can run it
};

/// Every instruction set compiled in, slowest (scalar, the reference) first.
std::span<const Isa> all_isas();

/// The fastest one this machine supports, or the one named by `forced` if it is not empty. Throws UsageError naming
/// SLUICE_ISA if that name is unknown or the machine lacks it.
const Isa& select_isa(std::string_view forced);

/// What multiplies the weights: int16 activations with one scale per group (the default), or exact f32.
enum class ActivationKind : unsigned char { int16, f32 };

/// What every operation needs to run. Passed by const reference; refers to objects that outlive it.
struct Context {
  const Isa& isa;
  ThreadTeam& team;
  ActivationKind activations = ActivationKind::int16;
};

}  // namespace sluice::kernels
