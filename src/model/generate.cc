#include "model/generate.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/error.h"

namespace sluice::model {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

bool cancelled(const GenerateRequest& request) {
  return request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed);
}

/// One forward pass; `next` gets the logits after its last token, if they are wanted. False if it failed.
bool advance(Model& model, const SequenceStep& step, std::vector<float>& next, GenerateResult& result) {
  try {
    model.forward(std::span(&step, 1),
                  [&](int, int, std::span<float> logits) { std::copy(logits.begin(), logits.end(), next.begin()); });
    return true;
  } catch (const Error& error) {
    result.reason = FinishReason::failed;
    result.error = error.what();
    return false;
  }
}

/// Evaluates the prompt chunk by chunk; false if it was cancelled or failed. `next` gets the logits after its last
/// token.
bool evaluate_prompt(Model& model, Session& session, const GenerateRequest& request, std::vector<float>& next,
                     kernels::FunctionRef<void(int)> on_prefill, GenerateResult& result) {
  const auto chunk = static_cast<std::size_t>(model.info().prefill_chunk);
  for (std::size_t done = 0; done < request.prompt.size();) {
    if (cancelled(request)) break;
    const auto count = std::min(chunk, request.prompt.size() - done);
    const bool last = done + count == request.prompt.size();
    const SequenceStep step{&session, request.prompt.subspan(done, count),
                            last ? LogitsWanted::last : LogitsWanted::none, true};
    if (!advance(model, step, next, result)) return false;
    done += count;
    result.prompt_tokens = static_cast<int>(done);
    on_prefill(static_cast<int>(done));
  }
  if (!cancelled(request)) return true;
  result.reason = FinishReason::cancelled;
  return false;
}

}  // namespace

GenerateResult generate(Model& model, Session& session, const GenerateRequest& request,
                        kernels::FunctionRef<void(int)> on_token, kernels::FunctionRef<void(int)> on_prefill) {
  const auto room = static_cast<std::size_t>(session.context() - session.position());
  if (request.prompt.empty()) fail("the prompt is empty; give at least one token");
  if (request.prompt.size() > room) {
    const bool can_grow = session.context() < model.spec().max_context;
    fail("the prompt has {} tokens, but the context has room for {}; shorten it{}", request.prompt.size(), room,
         can_grow ? " or raise --ctx-size" : ", the model was made for no more");
  }
  GenerateResult result;
  Sampler sampler(request.sampling);
  if (session.rng_state) sampler.set_rng_state(*session.rng_state);
  std::vector<float> logits(static_cast<std::size_t>(model.info().vocabulary));

  const Stopwatch prefill_time;
  const bool evaluated = evaluate_prompt(model, session, request, logits, on_prefill, result);
  result.prefill_seconds = prefill_time.seconds();
  if (!evaluated) return result;

  const Stopwatch decode_time;
  for (;;) {
    if (cancelled(request)) {
      result.reason = FinishReason::cancelled;
      break;
    }
    if (request.max_tokens >= 0 && result.generated_tokens >= request.max_tokens) {
      result.reason = FinishReason::max_tokens;
      break;
    }
    const int token = sampler.sample(logits, session.tokens());
    session.rng_state = sampler.rng_state();
    if (std::binary_search(request.stop_tokens.begin(), request.stop_tokens.end(), token)) {
      result.reason = FinishReason::stop_token;
      break;
    }
    ++result.generated_tokens;
    on_token(token);
    if (result.generated_tokens == request.max_tokens) continue;  // nothing needs the logits after the last token
    if (session.position() == session.context()) {
      result.reason = FinishReason::context_full;
      break;
    }
    const SequenceStep step{&session, std::span(&token, 1), LogitsWanted::last};
    if (!advance(model, step, logits, result)) break;
    ++result.decode_steps;
    result.decode_seconds = decode_time.seconds();
  }
  return result;
}

}  // namespace sluice::model
