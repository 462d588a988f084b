#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/error.h"

namespace sluice::model {
namespace {

/// The index of the highest logit, the lowest of equals. Throws Error unless the logits can be sampled from.
std::size_t find_highest(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::size_t highest = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < kInfinity)) fail("logits: the logit of token {} is {}, expected a finite number", i, logits[i]);
    if (logits[i] > logits[highest]) highest = i;
  }
  if (logits.empty() || logits[highest] == -kInfinity) fail("logits: every token is excluded");
  return highest;
}

/// Orders candidates. Equal logits are ordered by id, so that the order does not depend on the sorting algorithm.
constexpr auto kMoreProbable = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

void check(const SamplingParams& params) {
  // Written so that NaN is refused too.
  if (!(params.temperature >= 0 && std::isfinite(params.temperature))) {
    fail_usage("--temp: is {}, expected 0 or more", params.temperature);
  }
  if (params.top_k < 0) fail_usage("--top-k: is {}, expected 0 (all tokens) or more", params.top_k);
  if (!(params.top_p > 0 && params.top_p <= 1)) {
    fail_usage("--top-p: is {}, expected more than 0 and at most 1", params.top_p);
  }
  if (!(params.min_p >= 0 && params.min_p <= 1)) fail_usage("--min-p: is {}, expected 0 to 1", params.min_p);
  if (!(params.repeat_penalty > 0 && std::isfinite(params.repeat_penalty))) {
    fail_usage("--repeat-penalty: is {}, expected more than 0 (1 is off)", params.repeat_penalty);
  }
  if (params.repeat_last_n < -1) {
    fail_usage("--repeat-last-n: is {}, expected -1 (all tokens), 0 (none) or more", params.repeat_last_n);
  }
}

Sampler::Sampler(const SamplingParams& params) : params_(params), rng_state_(params.seed) {}

int Sampler::sample(std::span<float> logits, std::span<const int> history) {
  if (params_.repeat_penalty != 1) penalize(logits, history);
  const std::size_t highest = find_highest(logits);
  if (params_.temperature == 0) return static_cast<int>(highest);

  double total = keep_top_k(logits, logits[highest]);
  if (params_.top_p < 1) total = keep_top_p(total);
  if (params_.min_p > 0) total = keep_min_p();
  return draw(total);
}

void Sampler::penalize(std::span<float> logits, std::span<const int> history) {
  if (params_.repeat_last_n >= 0) {
    history = history.last(std::min(history.size(), static_cast<std::size_t>(params_.repeat_last_n)));
  }
  // A token is penalized once, however often it was seen.
  recent_.assign(history.begin(), history.end());
  std::sort(recent_.begin(), recent_.end());
  recent_.erase(std::unique(recent_.begin(), recent_.end()), recent_.end());
  for (const int id : recent_) {
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) continue;  // ids of padding rows
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / params_.repeat_penalty : logit * params_.repeat_penalty;
  }
}

/// Fills the candidates: all tokens in order of id, or the k most probable, most probable first. Returns the sum of
/// their weights.
double Sampler::keep_top_k(std::span<const float> logits, float highest) {
  candidates_.clear();
  candidates_.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<int>(i), logits[i], 0});

  const auto k = static_cast<std::size_t>(params_.top_k);
  if (k > 0 && k < candidates_.size()) {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
    std::partial_sort(candidates_.begin(), end, candidates_.end(), kMoreProbable);
    candidates_.erase(end, candidates_.end());
  }
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp((static_cast<double>(candidate.logit) - highest) / params_.temperature);
    total += candidate.weight;
  }
  return total;
}

/// Keeps the fewest candidates whose weights reach top_p of `total`, most probable first. Returns their sum.
double Sampler::keep_top_p(double total) {
  const double wanted = params_.top_p * total;
  // The few that are kept are nearly always among the first hundred, so only as many are sorted as it takes.
  double kept = 0;
  std::size_t sorted = 0;
  std::size_t count = 0;
  while (count < candidates_.size() && (count == 0 || kept < wanted)) {
    if (count == sorted) {
      sorted = std::min(candidates_.size(), std::max<std::size_t>(128, 4 * sorted));
      const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
      const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
      if (end != candidates_.end()) std::nth_element(begin, end, candidates_.end(), kMoreProbable);
      std::sort(begin, end, kMoreProbable);
    }
    kept += candidates_[count++].weight;
  }
  candidates_.resize(count);
  return kept;
}

/// Keeps the candidates with at least min_p of the highest weight, which is 1. Returns their sum.
double Sampler::keep_min_p() {
  std::erase_if(candidates_, [this](const Candidate& candidate) { return candidate.weight < params_.min_p; });
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  return total;
}

int Sampler::draw(double total) {
  const double target = next_uniform() * total;
  double sum = 0;
  int last = candidates_.front().id;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0) continue;
    sum += candidate.weight;
    last = candidate.id;
    if (target < sum) break;
  }
  return last;  // rounding may leave target at the very end
}

/// The next of SplitMix64, as a multiple of 2^-53 in [0, 1).
double Sampler::next_uniform() {
  rng_state_ += 0x9E3779B97F4A7C15U;
  std::uint64_t bits = rng_state_;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9U;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBU;
  bits ^= bits >> 31;
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace sluice::model
