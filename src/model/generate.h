// The generation loop: prompt in, tokens out, one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/thread_team.h"
#include "model/model.h"
#include "model/sampler.h"

namespace sluice::model {

struct GenerateRequest {
  std::span<const int> prompt;       // at least one token
  int max_tokens = 0;                // 0: none are generated; negative: until a stop token or the context is full
  SamplingParams sampling;           // the seed counts for a session that has not generated before
  std::span<const int> stop_tokens;  // sorted
  const std::atomic<bool>* cancel = nullptr;  // checked after each token and prompt chunk; set by Ctrl-C
};

enum class FinishReason : std::uint8_t { stop_token, max_tokens, context_full, cancelled, failed };

struct GenerateResult {
  FinishReason reason = FinishReason::max_tokens;
  int prompt_tokens = 0;     // evaluated: fewer than the prompt has if that was cancelled or failed
  int generated_tokens = 0;  // given to on_token; a stop token is not
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of the forward passes after the prompt, sampling included
  int decode_steps = 0;       // forward passes of one token
  std::string error;          // what failed, if something did: as a rule a read
};

/// Evaluates the prompt in `session`, then samples until something ends it. `on_token` gets each token as soon as it
/// is known, `on_prefill` (tokens done) after each prompt chunk. A forward pass that throws Error ends it too: what was
/// generated until then is a result, and `error` says why there is no more. Throws Error if the prompt is empty or
/// longer than the context, and whatever the callbacks throw.
GenerateResult generate(Model& model, Session& session, const GenerateRequest& request,
                        kernels::FunctionRef<void(int token)> on_token,
                        kernels::FunctionRef<void(int done)> on_prefill);

}  // namespace sluice::model
