#include "kernels/vector.h"

#include <algorithm>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Elements for which a dispatch pays: about ten microseconds of work, a few times what a dispatch costs.
constexpr std::int64_t kElementsPerChunk = 16384;

}  // namespace

void rms_norm(const Context& context, const float* x, int rows, int n, const float* weight, float eps, float* y) {
  const auto* vector = context.isa.vector;
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, kElementsPerChunk / std::max(1, n));
  context.team.parallel_for(rows, rows_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) vector->rms_norm(x + row * n, n, weight, eps, y + row * n);
  });
}

void add(const Context& context, const float* x, std::int64_t n, float* y) {
  context.team.parallel_for(n, kElementsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    context.isa.vector->add(x + begin, end - begin, y + begin);
  });
}

void swiglu(const Context& context, const float* gate, const float* up, std::int64_t n, float* y) {
  context.team.parallel_for(n, kElementsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    context.isa.vector->swiglu(gate + begin, up + begin, end - begin, y + begin);
  });
}

void softmax(const Context& context, float* logits, int n) { context.isa.vector->softmax(logits, n); }

}  // namespace sluice::kernels
