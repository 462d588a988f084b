#include "kernels/vector.h"

#include <algorithm>

#include "kernels/vector_kernels.h"

namespace sluice::kernels {
namespace {

/// Elements for which a dispatch pays: about ten microseconds of work, a few times what a dispatch costs.
constexpr std::int64_t kElementsPerChunk = 16384;

/// normalize(x, y) for each of `rows` rows of n.
template <typename Normalize>
void for_rows(const Context& context, const float* x, int rows, int n, float* y, Normalize normalize) {
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, kElementsPerChunk / std::max(1, n));
  context.team.parallel_for(rows, rows_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) normalize(x + row * n, y + row * n);
  });
}

void map(const Context& context, VectorKernels::Map* function, const float* x, std::int64_t n, float* y) {
  context.team.parallel_for(n, kElementsPerChunk,
                            [&](std::int64_t begin, std::int64_t end) { function(x + begin, end - begin, y + begin); });
}

}  // namespace

void rms_norm(const Context& context, const float* x, int rows, int n, const float* weight, float eps, float* y) {
  for_rows(context, x, rows, n, y,
           [&](const float* from, float* to) { context.isa.vector->rms_norm(from, n, weight, eps, to); });
}

void layer_norm(const Context& context, const float* x, int rows, int n, const float* weight, const float* bias,
                float eps, float* y) {
  for_rows(context, x, rows, n, y,
           [&](const float* from, float* to) { context.isa.vector->layer_norm(from, n, weight, bias, eps, to); });
}

void add(const Context& context, const float* x, std::int64_t n, float* y) {
  map(context, context.isa.vector->add, x, n, y);
}

void activate(const Context& context, Activation activation, const float* gate, const float* up, std::int64_t n,
              float* y) {
  const bool gated = is_gated(activation);
  context.team.parallel_for(n, kElementsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    activate(*context.isa.vector, activation, gated ? gate + begin : nullptr, up + begin, end - begin, y + begin);
  });
}

void sigmoid_glu(const Context& context, const float* gate, const float* up, std::int64_t n, float* y) {
  context.team.parallel_for(n, kElementsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    context.isa.vector->sigmoid_glu(gate + begin, up + begin, end - begin, y + begin);
  });
}

void sigmoid(const Context& context, const float* x, std::int64_t n, float* y) {
  map(context, context.isa.vector->sigmoid, x, n, y);
}

void softplus(const Context& context, const float* x, std::int64_t n, float* y) {
  map(context, context.isa.vector->softplus, x, n, y);
}

void tanh(const Context& context, const float* x, std::int64_t n, float* y) {
  map(context, context.isa.vector->tanh, x, n, y);
}

void softmax(const Context& context, float* logits, int n) { context.isa.vector->softmax(logits, n); }

}  // namespace sluice::kernels
