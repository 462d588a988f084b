// A few tokens through a model, for comparing two copies of it.
#pragma once

#include <span>
#include <vector>

#include "model/model.h"

namespace sluice::model {

/// Logits of all tokens of a short prompt, and of some tokens after it, one by one.
inline std::vector<float> short_run(Model& model) {
  std::vector<float> logits;
  const auto keep = [&](int, int, std::span<float> row) { logits.insert(logits.end(), row.begin(), row.end()); };
  Session session = model.new_session();
  const std::vector<int> prompt{7, 100, 3, 55, 9, 120, 64, 2, 31, 77, 13, 90};
  model.prefill(session, prompt, LogitsWanted::all, keep);
  for (const int token : {5, 88, 41}) {
    const SequenceStep step{&session, std::span(&token, 1), LogitsWanted::last};
    model.forward(std::span(&step, 1), keep);
  }
  return logits;
}

}  // namespace sluice::model
