// Multi-head latent attention in its absorbed form: queries are turned into the space of the latent, which is key and
// value of all heads.
#include <algorithm>

#include "kernels/attention.h"
#include "kernels/sparse_index.h"
#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {

using kernels::GatherJob;
using kernels::MatrixView;
using kernels::Projection;
using kernels::Workspace;

namespace {

/// Rows whose absorbed queries are in memory at once: [32, 128 heads, 576] floats are 9 MiB.
constexpr int kAbsorbedRows = 32;

/// The layer norm of the indexer's keys; the reference uses it whatever the config says.
constexpr float kIndexNormEps = 1e-5F;

/// y [count * heads, out] = W_h x for x [count * heads, in] and the stacked W [heads * out, in].
void multiply_heads(Pass& pass, const MatrixView& stacked, int heads, int count, const float* x, float* y) {
  const Workspace::Mark mark(pass.workspace);
  const auto table = pass.workspace.take<MatrixView>(static_cast<std::size_t>(heads));
  const auto jobs = pass.workspace.take<GatherJob>(static_cast<std::size_t>(heads) * static_cast<std::size_t>(count));
  const int out = stacked.rows / heads;
  std::size_t job = 0;
  for (int head = 0; head < heads; ++head) {
    table[static_cast<std::size_t>(head)] = kernels::row_slice(stacked, head * out, out);
    for (int row = 0; row < count; ++row) jobs[job++] = {head, row * heads + head, row * heads + head};
  }
  kernels::gather_matmul(pass.context, table, x, count * heads, jobs, y, pass.workspace);
}

/// Chooses positions for every row and keeps them in pass.selection; q_in [T, q latent], h [T, H].
void select(Pass& pass, const IndexerSpec& spec, const IndexerWeights& weights, const float* q_in, const float* h) {
  const Workspace::Mark mark(pass.workspace);
  const kernels::Context& context = pass.context;
  const int q_size = spec.heads * spec.head_dim;
  const std::span<float> q = pass.take(q_size);                 // [T, heads, D]
  const std::span<float> k = pass.take(spec.head_dim);          // [T, D]
  const std::span<float> head_weights = pass.take(spec.heads);  // [T, heads]
  const Projection from_q[] = {{&weights.q, q.data(), q_size}};
  kernels::matmul(context, q_in, pass.count(), from_q, pass.workspace);
  const Projection from_h[] = {{&weights.k, k.data(), spec.head_dim},
                               {&weights.weights, head_weights.data(), spec.heads}};
  kernels::matmul(context, h, pass.count(), from_h, pass.workspace);
  kernels::layer_norm(context, k.data(), pass.count(), spec.head_dim, weights.k_norm.data(), weights.k_norm_bias.data(),
                      kIndexNormEps, k.data());
  const auto half = static_cast<int>(spec.rope.inv_freq.size());
  const std::span<float> cos_sin = pass.workspace.take<float>(2 * spec.rope.inv_freq.size());
  const auto queries = pass.workspace.take<kernels::IndexRow>(pass.rows.size());
  const kernels::KvShape& shape = pass.session.caches[static_cast<std::size_t>(weights.cache)].shape;
  for (std::size_t row = 0; row < pass.rows.size(); ++row) {
    const PassRow& at = pass.rows[row];
    float* q_row = &q[row * static_cast<std::size_t>(q_size)];
    float* k_row = &k[row * static_cast<std::size_t>(spec.head_dim)];
    kernels::rope_angles(at.position, spec.rope.inv_freq, cos_sin.data(), spec.rope.amplitude);
    kernels::rope(context, q_row, spec.heads, spec.head_dim, cos_sin.data(), half, spec.rope.pairs);
    kernels::rope(context, k_row, 1, spec.head_dim, cos_sin.data(), half, spec.rope.pairs);
    kernels::store_kv(context, shape, at.session->block(weights.cache, at.position), at.position, k_row, nullptr);
    queries[row] = {q_row, &head_weights[row * static_cast<std::size_t>(spec.heads)], at.session->blocks(weights.cache),
                    at.position, &pass.selection[row * pass.selection_words()]};
  }
  kernels::select_positions(context, shape, spec.heads, spec.top_k, queries, pass.workspace);
  pass.selection_top_k = spec.top_k;
}

}  // namespace

void apply(Pass& pass, const MlaWeights& weights, const float*, const float* h, float* out) {
  const MlaSpec& spec = *weights.spec;
  const kernels::Context& context = pass.context;
  const Workspace::Mark mark(pass.workspace);
  const int q_dim = spec.nope_dim + spec.rope_dim;
  const int q_size = spec.heads * q_dim;
  const int key_dim = spec.latent_dim + spec.rope_dim;
  const std::span<float> q = pass.take(q_size);      // [T, heads, nope | rope]
  const std::span<float> keys = pass.take(key_dim);  // [T, latent | rope]
  const std::span<float> mixed = pass.take(spec.heads * spec.value_dim);
  const float* q_in = h;
  if (spec.q_latent_dim > 0) {
    const std::span<float> q_latent = pass.take(spec.q_latent_dim);
    const Projection in[] = {{&weights.q_a, q_latent.data(), spec.q_latent_dim}, {&weights.kv_a, keys.data(), key_dim}};
    kernels::matmul(context, h, pass.count(), in, pass.workspace);
    kernels::rms_norm(context, q_latent.data(), pass.count(), spec.q_latent_dim, weights.q_a_norm.data(), spec.norm_eps,
                      q_latent.data());
    q_in = q_latent.data();
    const Projection from_latent[] = {{&weights.q, q.data(), q_size}};
    kernels::matmul(context, q_in, pass.count(), from_latent, pass.workspace);
  } else {
    const Projection in[] = {{&weights.q, q.data(), q_size}, {&weights.kv_a, keys.data(), key_dim}};
    kernels::matmul(context, h, pass.count(), in, pass.workspace);
  }

  const auto half = static_cast<int>(spec.rope.inv_freq.size());
  const std::span<float> cos_sin = pass.workspace.take<float>(2 * spec.rope.inv_freq.size());
  const kernels::KvShape& shape = pass.session.caches[static_cast<std::size_t>(weights.cache)].shape;
  for (std::size_t row = 0; row < pass.rows.size(); ++row) {
    const PassRow& at = pass.rows[row];
    float* key = &keys[row * static_cast<std::size_t>(key_dim)];
    kernels::rms_norm(context, key, 1, spec.latent_dim, weights.kv_a_norm.data(), spec.norm_eps, key);
    if (half > 0) {
      kernels::rope_angles(at.position, spec.rope.inv_freq, cos_sin.data(), spec.rope.amplitude);
      kernels::rope(context, key + spec.latent_dim, 1, spec.rope_dim, cos_sin.data(), half, spec.rope.pairs);
      kernels::rope(context, &q[row * static_cast<std::size_t>(q_size) + static_cast<std::size_t>(spec.nope_dim)],
                    spec.heads, q_dim, cos_sin.data(), half, spec.rope.pairs);
    }
    kernels::store_kv(context, shape, at.session->block(weights.cache, at.position), at.position, key, nullptr);
  }
  if (weights.indexer) select(pass, *spec.indexer, *weights.indexer, q_in, h);
  const bool selects = weights.indexer.has_value() || spec.shared_selection;

  for (int first = 0; first < pass.count(); first += kAbsorbedRows) {
    const Workspace::Mark group_mark(pass.workspace);
    const int count = std::min(kAbsorbedRows, pass.count() - first);
    const auto vectors = static_cast<std::size_t>(count) * static_cast<std::size_t>(spec.heads);
    const auto nope = static_cast<std::size_t>(spec.nope_dim);
    const auto rotated = static_cast<std::size_t>(spec.rope_dim);
    const auto latent = static_cast<std::size_t>(spec.latent_dim);
    const float* group_q = &q[static_cast<std::size_t>(first) * static_cast<std::size_t>(q_size)];
    const std::span<float> plain = pass.workspace.take<float>(vectors * nope);
    const std::span<float> embedded = pass.workspace.take<float>(vectors * latent);  // also the attended latents
    const std::span<float> absorbed = pass.workspace.take<float>(vectors * (latent + rotated));
    for (std::size_t i = 0; i < vectors; ++i) std::copy_n(group_q + i * (nope + rotated), nope, &plain[i * nope]);
    multiply_heads(pass, weights.embed_q, spec.heads, count, plain.data(), embedded.data());
    for (std::size_t i = 0; i < vectors; ++i) {
      float* query = &absorbed[i * (latent + rotated)];
      std::copy_n(&embedded[i * latent], latent, query);
      std::copy_n(group_q + i * (nope + rotated) + nope, rotated, query + latent);
    }
    const auto queries = pass.workspace.take<kernels::AttentionRow>(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < queries.size(); ++i) {
      const std::size_t row = static_cast<std::size_t>(first) + i;
      const PassRow& at = pass.rows[row];
      const bool cut = selects && at.position >= pass.selection_top_k;
      queries[i] = {.q = &absorbed[i * static_cast<std::size_t>(spec.heads) * (latent + rotated)],
                    .out = &embedded[i * static_cast<std::size_t>(spec.heads) * latent],
                    .blocks = at.session->blocks(weights.cache),
                    .position = at.position,
                    .selected = cut ? &pass.selection[row * pass.selection_words()] : nullptr};
    }
    kernels::attention(context, shape, {spec.heads, spec.scale}, queries, pass.workspace);
    multiply_heads(pass, weights.unembed_out, spec.heads, count, embedded.data(),
                   &mixed[static_cast<std::size_t>(first) * static_cast<std::size_t>(spec.heads * spec.value_dim)]);
  }
  const Projection o[] = {{&weights.o, out, pass.hidden}};
  kernels::matmul(context, mixed.data(), pass.count(), o, pass.workspace);
}

ScratchBytes scratch_bytes(const MlaSpec& spec, int hidden) {
  const double q = static_cast<double>(spec.heads) * (spec.nope_dim + spec.rope_dim);
  const double value = static_cast<double>(spec.heads) * spec.value_dim;
  double row = 4 * (q + spec.latent_dim + spec.rope_dim + value + spec.q_latent_dim) +
               kPreparedBytes * (hidden + spec.q_latent_dim + value);
  if (spec.indexer) {
    const double index_q = static_cast<double>(spec.indexer->heads) * spec.indexer->head_dim;
    row += 4 * (index_q + spec.indexer->head_dim + spec.indexer->heads) + sizeof(kernels::IndexRow);
  }
  const double absorbed = spec.heads * (4.0 * (spec.nope_dim + 2 * spec.latent_dim + spec.rope_dim) +
                                        kPreparedBytes * spec.latent_dim + sizeof(GatherJob));
  return {kAbsorbedRows * (absorbed + sizeof(kernels::AttentionRow)) + kernels::kIndexScratchBytes, row};
}

}  // namespace sluice::model
