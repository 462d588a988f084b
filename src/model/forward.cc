// The forward pass: tokens to logits, layer by layer. Shapes: T rows in the pass, H hidden.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "kernels/attention.h"
#include "kernels/vector.h"
#include "model/model_state.h"

namespace sluice::model {

using kernels::Projection;
using kernels::Workspace;

namespace {

std::size_t product(int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

}  // namespace

void Model::State::forward(std::span<const SequenceStep> sequence_steps, LogitsSink sink) {
  const int vocabulary = plan->spec.vocabulary;
  rows.clear();
  for (const SequenceStep& step : sequence_steps) {
    for (std::size_t i = 0; i < step.tokens.size(); ++i) {
      const int token = step.tokens[i];
      if (token < 0 || token >= vocabulary) fail("token {} is outside the vocabulary (0 to {})", token, vocabulary - 1);
      rows.push_back({step.session, token, step.session->position() + static_cast<int>(i)});
    }
  }
  if (rows.empty()) return;
  std::size_t appended = 0;
  const bool decode = std::all_of(sequence_steps.begin(), sequence_steps.end(),
                                  [](const auto& step) { return step.tokens.size() == 1; });
  try {
    for (; appended < sequence_steps.size(); ++appended) {
      sequence_steps[appended].session->append(sequence_steps[appended].tokens);
    }
    const Workspace::Mark mark(workspace);
    const int hidden = plan->spec.hidden;
    const std::span<float> x = workspace.take<float>(product(static_cast<int>(rows.size()), hidden));  // [T, H]
    for (std::size_t row = 0; row < rows.size(); ++row) {
      kernels::dequantize_row(plan->weights.embedding, rows[row].token, &x[row * static_cast<std::size_t>(hidden)]);
    }
    run_layers(x.data(), decode ? cache::Phase::decode : cache::Phase::prefill);
    ++steps;
    emit_logits(sequence_steps, x.data(), sink);
  } catch (...) {
    for (std::size_t i = 0; i < appended; ++i) {
      Session& session = *sequence_steps[i].session;
      session.truncate(session.position() - static_cast<int>(sequence_steps[i].tokens.size()));
    }
    throw;
  }
}

void Model::State::run_layers(float* x, cache::Phase phase) {
  const int count = static_cast<int>(rows.size());
  const int hidden = plan->spec.hidden;
  const auto size = static_cast<std::int64_t>(count) * hidden;
  const std::span<float> h = workspace.take<float>(static_cast<std::size_t>(size));    // [T, H] normed input
  const std::span<float> out = workspace.take<float>(static_cast<std::size_t>(size));  // [T, H] of a block
  for (int l = 0; l < static_cast<int>(plan->weights.layers.size()); ++l) {
    const LayerWeights& layer = plan->weights.layers[static_cast<std::size_t>(l)];
    kernels::rms_norm(context, x, count, hidden, layer.input_norm.data(), plan->spec.norm_eps, h.data());
    attention(l, h.data(), out.data());
    kernels::add(context, out.data(), size, x);
    kernels::rms_norm(context, x, count, hidden, layer.post_attention_norm.data(), plan->spec.norm_eps, h.data());
    feed_forward(l, h.data(), out.data(), phase);
    kernels::add(context, out.data(), size, x);
  }
}

void Model::State::attention(int l, const float* h, float* out) {
  const Workspace::Mark mark(workspace);
  const AttentionSpec& spec = plan->spec.layers[static_cast<std::size_t>(l)].attention;
  const AttentionWeights& weights = plan->weights.layers[static_cast<std::size_t>(l)].attention;
  const int count = static_cast<int>(rows.size());
  const int q_size = spec.heads * spec.head_dim;
  const int kv_size = spec.kv_heads * spec.head_dim;
  const std::span<float> q = workspace.take<float>(product(count, q_size));      // [T, heads, D]
  const std::span<float> k = workspace.take<float>(product(count, kv_size));     // [T, kv_heads, D]
  const std::span<float> v = workspace.take<float>(product(count, kv_size));     // [T, kv_heads, D]
  const std::span<float> mixed = workspace.take<float>(product(count, q_size));  // [T, heads, D]
  const Projection qkv[] = {
      {&weights.q, q.data(), q_size}, {&weights.k, k.data(), kv_size}, {&weights.v, v.data(), kv_size}};
  kernels::matmul(context, h, count, qkv, workspace);
  kernels::rms_norm(context, q.data(), count * spec.heads, spec.head_dim, weights.q_norm.data(), plan->spec.norm_eps,
                    q.data());
  kernels::rms_norm(context, k.data(), count * spec.kv_heads, spec.head_dim, weights.k_norm.data(), plan->spec.norm_eps,
                    k.data());

  const auto half = static_cast<int>(spec.rope_inv_freq.size());
  const std::span<float> cos_sin = workspace.take<float>(2 * spec.rope_inv_freq.size());
  const std::span<kernels::AttentionRow> queries = workspace.take<kernels::AttentionRow>(rows.size());
  const kernels::KvShape& shape = plan->kv_shapes[static_cast<std::size_t>(l)];
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const PassRow& at = rows[row];
    float* q_row = &q[row * static_cast<std::size_t>(q_size)];
    float* k_row = &k[row * static_cast<std::size_t>(kv_size)];
    kernels::rope_angles(at.position, spec.rope_inv_freq, cos_sin.data());
    kernels::rope(context, q_row, spec.heads, spec.head_dim, cos_sin.data(), half);
    kernels::rope(context, k_row, spec.kv_heads, spec.head_dim, cos_sin.data(), half);
    kernels::store_kv(context, shape, at.session->block(l, at.position), at.position, k_row,
                      &v[row * static_cast<std::size_t>(kv_size)]);
    queries[row] = {q_row, &mixed[row * static_cast<std::size_t>(q_size)], at.session->blocks(l), at.position};
  }
  kernels::attention(context, shape, {spec.heads, spec.scale}, queries, workspace);
  const Projection o[] = {{&weights.o, out, plan->spec.hidden}};
  kernels::matmul(context, mixed.data(), count, o, workspace);
}

void Model::State::feed_forward(int l, const float* h, float* out, cache::Phase phase) {
  const Workspace::Mark mark(workspace);
  const LayerSpec& spec = plan->spec.layers[static_cast<std::size_t>(l)];
  const LayerWeights& weights = plan->weights.layers[static_cast<std::size_t>(l)];
  const int count = static_cast<int>(rows.size());
  if (const auto* mlp = std::get_if<MlpWeights>(&weights.feed_forward)) {
    const int width = mlp->gate.rows;
    const std::span<float> gate = workspace.take<float>(product(count, width));  // [T, width]
    const std::span<float> up = workspace.take<float>(product(count, width));    // [T, width]
    const Projection gate_up[] = {{&mlp->gate, gate.data(), width}, {&mlp->up, up.data(), width}};
    kernels::matmul(context, h, count, gate_up, workspace);
    kernels::activate(context, kernels::Activation::swiglu, gate.data(), up.data(),
                      static_cast<std::int64_t>(gate.size()), gate.data());
    const Projection down[] = {{&mlp->down, out, plan->spec.hidden}};
    kernels::matmul(context, gate.data(), count, down, workspace);
    return;
  }
  const auto& moe_spec = std::get<MoeSpec>(spec.feed_forward);
  const auto& moe_weights = std::get<MoeWeights>(weights.feed_forward);
  const std::span<int> ids = workspace.take<int>(product(count, moe_spec.top_k));                // [T, k]
  const std::span<float> route_weights = workspace.take<float>(product(count, moe_spec.top_k));  // [T, k]
  route(moe_spec, moe_weights, h, ids, route_weights);
  moe->run({moe_weights.index, count, h, ids.data(), route_weights.data(), phase, steps}, out, workspace);
}

void Model::State::route(const MoeSpec& spec, const MoeWeights& weights, const float* h, std::span<int> ids,
                         std::span<float> route_weights) {
  const int count = static_cast<int>(rows.size());
  const std::span<float> scores = workspace.take<float>(product(count, spec.experts));  // [T, E]
  const Projection router[] = {{&weights.router, scores.data(), spec.experts}};
  kernels::matmul(context, h, count, router, workspace);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::span<float> p =
        scores.subspan(row * static_cast<std::size_t>(spec.experts), static_cast<std::size_t>(spec.experts));
    const std::span<int> chosen =
        ids.subspan(row * static_cast<std::size_t>(spec.top_k), static_cast<std::size_t>(spec.top_k));
    const std::span<float> chosen_weights = route_weights.subspan(row * chosen.size(), chosen.size());
    kernels::softmax(context, p.data(), spec.experts);
    kernels::top_k(p, spec.ties, chosen);
    for (std::size_t j = 0; j < chosen.size(); ++j) chosen_weights[j] = p[static_cast<std::size_t>(chosen[j])];
    if (spec.normalize_top_k) {
      const float sum = std::accumulate(chosen_weights.begin(), chosen_weights.end(), 0.0F);
      for (float& weight : chosen_weights) weight /= sum;
    }
    if (observer) observer(weights.index, static_cast<int>(row), chosen, chosen_weights);
  }
}

void Model::State::emit_logits(std::span<const SequenceStep> sequence_steps, const float* x, LogitsSink sink) {
  const Workspace::Mark mark(workspace);
  const int hidden = plan->spec.hidden;
  const int vocabulary = plan->spec.vocabulary;
  const std::span<float> normed = workspace.take<float>(product(kLogitRows, hidden));
  const std::span<float> logits = workspace.take<float>(product(kLogitRows, vocabulary));
  const float* step_x = x;
  for (std::size_t s = 0; s < sequence_steps.size(); ++s) {
    const auto count = static_cast<int>(sequence_steps[s].tokens.size());
    const LogitsWanted wanted = sequence_steps[s].logits;
    int row = wanted == LogitsWanted::all ? 0 : wanted == LogitsWanted::last ? count - 1 : count;
    while (row < count) {
      const int block = std::min(kLogitRows, count - row);
      const float* block_x = step_x + product(row, hidden);
      kernels::rms_norm(context, block_x, block, hidden, plan->weights.final_norm.data(), plan->spec.norm_eps,
                        normed.data());
      const Projection head[] = {{&plan->weights.head, logits.data(), vocabulary}};
      kernels::matmul(context, normed.data(), block, head, workspace);
      for (int i = 0; i < block; ++i) {
        sink(static_cast<int>(s), row + i,
             logits.subspan(product(i, vocabulary), static_cast<std::size_t>(vocabulary)));
      }
      row += block;
    }
    step_x += product(count, hidden);
  }
}

}  // namespace sluice::model
