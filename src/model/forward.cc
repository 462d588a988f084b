// The forward pass: tokens to logits, block by block. Shapes: T rows in the pass, H hidden.
#include <algorithm>

#include "base/error.h"
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
                                  [](const auto& step) { return step.tokens.size() == 1 && !step.prompt; });
  try {
    for (; appended < sequence_steps.size(); ++appended) {
      sequence_steps[appended].session->append(sequence_steps[appended].tokens);
    }
    const Workspace::Mark mark(workspace);
    const auto hidden = static_cast<std::size_t>(plan->spec.hidden);
    const std::span<float> x = workspace.take<float>(rows.size() * hidden);  // [T, H]
    for (std::size_t row = 0; row < rows.size(); ++row) {
      kernels::dequantize_row(plan->weights.embedding, rows[row].token, &x[row * hidden]);
    }
    if (plan->spec.embedding_scale != 1) {
      for (float& value : x) value *= plan->spec.embedding_scale;
    }
    run_blocks(rows, decode ? cache::Phase::decode : cache::Phase::prefill, x.data());
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

void Model::State::run_blocks(std::span<const PassRow> pass_rows, cache::Phase phase, float* x) {
  const int count = static_cast<int>(pass_rows.size());
  const int hidden = plan->spec.hidden;
  const float eps = plan->spec.norm_eps;
  const auto size = static_cast<std::int64_t>(count) * hidden;
  const std::span<float> h = workspace.take<float>(static_cast<std::size_t>(size));    // [T, H] normed input
  const std::span<float> out = workspace.take<float>(static_cast<std::size_t>(size));  // [T, H] of a block
  Pass pass{context,   workspace,       plan->session,   pass_rows,  hidden, eps,   moe.get(),
            &observer, &route_override, &guess_override, moe_blocks, phase,  steps, take_selection(count)};
  for (const BlockWeights& block : plan->weights.blocks) {
    follow_watch();  // here and not once per pass: a chunk of a prompt takes seconds
    kernels::rms_norm(context, x, count, hidden, block.norm.data(), eps, h.data());
    std::visit([&](const auto& operation) { apply(pass, operation, x, h.data(), out.data()); }, block.operation);
    if (!block.post_norm.empty()) {
      kernels::rms_norm(context, out.data(), count, hidden, block.post_norm.data(), eps, out.data());
    }
    kernels::add(context, out.data(), size, x);
    if (!block.output_scale.empty()) {
      for (float& value : std::span(x, static_cast<std::size_t>(size))) value *= block.output_scale[0];
    }
  }
}

std::span<std::uint64_t> Model::State::take_selection(int count) {
  return workspace.take<std::uint64_t>(static_cast<std::size_t>(count) * plan->selection_words);
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
      if (const float cap = plan->spec.logit_softcap; cap > 0) {
        const std::span<float> capped = logits.first(product(block, vocabulary));
        for (float& value : capped) value /= cap;
        kernels::tanh(context, capped.data(), static_cast<std::int64_t>(capped.size()), capped.data());
        for (float& value : capped) value *= cap;
      }
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
