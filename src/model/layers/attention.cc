// Grouped-query attention and its variants.
#include "kernels/attention.h"

#include <algorithm>
#include <array>

#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {

using kernels::Projection;
using kernels::Workspace;

namespace {

/// Rows that a worker rotates and stores at once: some 100 us of work, so that a decoded token takes no dispatch.
constexpr std::int64_t kRowsPerClaim = 4;

/// [T, heads, 2, D] -> queries [T, heads, D] and gates likewise.
void split_gates(std::span<const float> both, int head_dim, std::span<float> q, std::span<float> gate) {
  const auto d = static_cast<std::size_t>(head_dim);
  for (std::size_t head = 0; head < q.size() / d; ++head) {
    std::copy_n(&both[2 * head * d], d, &q[head * d]);
    std::copy_n(&both[(2 * head + 1) * d], d, &gate[head * d]);
  }
}

/// Norms of queries or keys [T, heads, D].
void norm_heads(Pass& pass, QkNorm kind, int heads, int head_dim, std::span<const float> weight, std::span<float> x) {
  if (kind == QkNorm::none) return;
  const bool all = kind == QkNorm::all_heads;
  kernels::rms_norm(pass.context, x.data(), all ? pass.count() : pass.count() * heads,
                    all ? heads * head_dim : head_dim, weight.data(), pass.norm_eps, x.data());
}

}  // namespace

void apply(Pass& pass, const AttentionWeights& weights, const float*, const float* h, float* out) {
  const AttentionSpec& spec = *weights.spec;
  const kernels::Context& context = pass.context;
  const Workspace::Mark mark(pass.workspace);
  const int q_size = spec.heads * spec.head_dim;
  const int kv_size = spec.kv_heads * spec.head_dim;
  std::span<float> q = pass.take(q_size);            // [T, heads, D]
  const std::span<float> k = pass.take(kv_size);     // [T, kv_heads, D]
  const std::span<float> v = pass.take(kv_size);     // [T, kv_heads, D]
  const std::span<float> mixed = pass.take(q_size);  // [T, heads, D]
  std::span<float> gate;                             // [T, heads, D]
  if (spec.output_gate) {
    gate = pass.take(q_size);
    const Workspace::Mark both_mark(pass.workspace);
    const std::span<float> both = pass.take(2 * q_size);
    const Projection in[] = {
        {&weights.q, both.data(), 2 * q_size}, {&weights.k, k.data(), kv_size}, {&weights.v, v.data(), kv_size}};
    kernels::matmul(context, h, pass.count(), in, pass.workspace);
    split_gates(both, spec.head_dim, q, gate);
  } else {
    const Projection in[] = {
        {&weights.q, q.data(), q_size}, {&weights.k, k.data(), kv_size}, {&weights.v, v.data(), kv_size}};
    const bool has_v = !spec.v.path.empty();
    kernels::matmul(context, h, pass.count(), std::span(in).first(has_v ? 3 : 2), pass.workspace);
    if (!has_v) std::copy(k.begin(), k.end(), v.begin());
  }
  norm_heads(pass, spec.qk_norm, spec.heads, spec.head_dim, weights.q_norm, q);
  norm_heads(pass, spec.qk_norm, spec.kv_heads, spec.head_dim, weights.k_norm, k);
  if (spec.v_norm) {
    kernels::rms_norm(context, v.data(), pass.count() * spec.kv_heads, spec.head_dim, nullptr, pass.norm_eps, v.data());
  }

  const auto half = static_cast<int>(spec.rope.inv_freq.size());
  const auto queries = pass.workspace.take<kernels::AttentionRow>(pass.rows.size());
  const kernels::KvShape& shape = pass.session.caches[static_cast<std::size_t>(weights.cache)].shape;
  const auto place = [&](std::size_t row) {  // rotates queries and keys, and stores what the cache keeps
    const PassRow& at = pass.rows[row];
    float* q_row = &q[row * static_cast<std::size_t>(q_size)];
    float* k_row = &k[row * static_cast<std::size_t>(kv_size)];
    if (half > 0) {
      std::array<float, kernels::kMaxHeadDim> cos_sin;
      kernels::rope_angles(at.position, spec.rope.inv_freq, cos_sin.data(), spec.rope.amplitude);
      kernels::rope(context, q_row, spec.heads, spec.head_dim, cos_sin.data(), half, spec.rope.pairs);
      kernels::rope(context, k_row, spec.kv_heads, spec.head_dim, cos_sin.data(), half, spec.rope.pairs);
    }
    kernels::store_kv(context, shape, at.session->block(weights.cache, at.position), at.position, k_row,
                      &v[row * static_cast<std::size_t>(kv_size)]);
    queries[row] = {.q = q_row,
                    .out = &mixed[row * static_cast<std::size_t>(q_size)],
                    .blocks = at.session->blocks(weights.cache),
                    .position = at.position};
  };
  context.team.parallel_for(pass.count(), kRowsPerClaim, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) place(static_cast<std::size_t>(begin));
  });
  const float* sinks = weights.sinks.empty() ? nullptr : weights.sinks.data();
  kernels::attention(context, shape, {spec.heads, spec.scale, spec.window, sinks}, queries, pass.workspace);
  if (spec.output_gate) {
    kernels::sigmoid_glu(context, gate.data(), mixed.data(), static_cast<std::int64_t>(mixed.size()), mixed.data());
  }
  const Projection o[] = {{&weights.o, out, pass.hidden}};
  kernels::matmul(context, mixed.data(), pass.count(), o, pass.workspace);
}

ScratchBytes scratch_bytes(const AttentionSpec& spec, int hidden) {
  const double q = static_cast<double>(spec.heads) * spec.head_dim;
  const double kv = static_cast<double>(spec.kv_heads) * spec.head_dim;
  return {
      0, 4 * ((spec.output_gate ? 5 : 2) * q + 2 * kv) + kPreparedBytes * (hidden + q) + sizeof(kernels::AttentionRow)};
}

}  // namespace sluice::model
