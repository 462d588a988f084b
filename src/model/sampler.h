// Choosing the next token from the logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::model {

/// How tokens are chosen. The defaults choose the most probable token.
struct SamplingParams {
  float temperature = 0;     // 0: always the most probable token
  int top_k = 0;             // keep the k most probable tokens; 0: all
  float top_p = 1;           // of these, keep the fewest that have this much probability together; 1: all
  float min_p = 0;           // of these, keep those with this fraction of the highest probability; 0: all
  float repeat_penalty = 1;  // above 1: tokens seen lately become less likely; 1: off
  int repeat_last_n = 64;    // how many tokens "lately" means, prompt included; -1: all, 0: none
  std::uint64_t seed = 0;
};

/// Throws UsageError naming the flag if a value is out of its range.
void check(const SamplingParams& params);

/// Chooses tokens. The steps are those of Hugging Face transformers, in its order: repetition penalty, temperature,
/// top-k, top-p, min-p, each renormalizing what the one before left over.
///
/// The random numbers are defined here (SplitMix64, one per token), so that a seed means the same with every compiler
/// and standard library. With temperature 0 none are used. Used by one thread at a time.
class Sampler {
 public:
  /// `params` must pass check().
  explicit Sampler(const SamplingParams& params);

  /// The next token, an index into `logits`, given the tokens so far, prompt included. `logits` is scratch: the
  /// penalty is applied in place. A logit of -inf excludes its token. Of equal logits the lowest index comes first.
  /// Its buffers are kept from call to call. Throws Error if a logit is NaN or +inf, or if all are -inf.
  int sample(std::span<float> logits, std::span<const int> history);

  /// The state of the random numbers: all that a session has to keep to go on with the same tokens.
  std::uint64_t rng_state() const { return rng_state_; }
  void set_rng_state(std::uint64_t state) { rng_state_ = state; }

 private:
  struct Candidate {
    int id;
    float logit;
    double weight;  // not normalized: 1 for the most probable token
  };

  void penalize(std::span<float> logits, std::span<const int> history);
  double keep_top_k(std::span<const float> logits, float highest);
  double keep_top_p(double total);
  double keep_min_p();
  int draw(double total);
  double next_uniform();

  SamplingParams params_;
  std::uint64_t rng_state_;
  std::vector<Candidate> candidates_;
  std::vector<int> recent_;
};

}  // namespace sluice::model
