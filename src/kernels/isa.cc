#include "kernels/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <string>

#include "base/error.h"
#include "kernels/matmul_kernels.h"
#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

#if defined(__x86_64__)
bool has_avx2() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}
#endif

constexpr Isa kIsas[] = {
    {"scalar", &kMatmulScalar, &kVectorScalar, [] { return true; }},
#if defined(__x86_64__)
    {"avx2", &kMatmulAvx2, &kVectorAvx2, has_avx2},
    {"avx512", &kMatmulAvx512, &kVectorAvx2, has_avx512},
#elif defined(__aarch64__)
    {"neon", &kMatmulNeon, &kVectorNeon, [] { return true; }},
#endif
};

}  // namespace

std::span<const Isa> all_isas() { return kIsas; }

const Isa& select_isa(std::string_view forced) {
  const Isa* best = nullptr;
  std::string names;
  for (const Isa& isa : kIsas) {
    if (isa.name == forced && !isa.supported()) {
      fail_usage("SLUICE_ISA: this machine has no {}; unset it to use the fastest instruction set there is", forced);
    }
    if (isa.supported() && (forced.empty() || isa.name == forced)) best = &isa;
    names += names.empty() ? "" : ", ";
    names += isa.name;
  }
  if (best == nullptr) fail_usage("SLUICE_ISA: unknown instruction set '{}', expected one of {}", forced, names);
  return *best;
}

}  // namespace sluice::kernels
