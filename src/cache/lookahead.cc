#include "cache/lookahead.h"

#include <algorithm>
#include <utility>

namespace sluice::cache {
namespace {

// Weight of one new observation in a running mean. Windows change slowly (they are the time a layer computes); whether
// a guess was right is a coin, so its mean needs many.
constexpr double kWindowWeight = 1.0 / 8;
constexpr double kShareWeight = 1.0 / 128;
constexpr double kBandwidthWeight = 1.0 / 256;

// Before anything was measured. A guess of the first rank is right more often than not in every published model
// (70 to 90 % for the next layer's router), later ones less.
constexpr double kFirstPrecision = 0.6;
constexpr double kFirstBusy = 0.5;
constexpr double kFirstBytes = 1e7, kFirstSeconds = 0.01;  // as if this had been read

// After kPatience guesses for a layer without anything worth reading, one of kRetry is still made: what it costs, one
// product with a router, is then a few parts in a thousand of a layer.
constexpr std::uint32_t kPatience = 8;
constexpr std::uint32_t kRetry = 16;

// A sixteenth of the lookups is what finding out costs at most; a prime, so that the layers take turns. Waits differ by
// about their mean: after kLeastComparisons a guess that saves or costs a quarter of it shows, after kComparisons a
// tenth.
constexpr std::uint32_t kTrialPeriod = 17;
constexpr std::uint32_t kLeastComparisons = 32;
constexpr std::uint32_t kComparisons = 256;

void move_towards(double& mean, double value, double weight) { mean += weight * (value - mean); }

}  // namespace

bool LookaheadTrial::usually_guess() const { return comparisons_ < kLeastComparisons || saved_ > 0; }

bool LookaheadTrial::next() { return usually_guess() != (++turn_ % kTrialPeriod == 0); }

void LookaheadTrial::cost(bool guessed, double seconds) {
  if (guessed == usually_guess()) {
    usual_sum_ += seconds;
    ++usual_count_;
    return;
  }
  if (usual_count_ == 0) return;
  const double usual = usual_sum_ / usual_count_;
  ++comparisons_;
  move_towards(saved_, guessed ? usual - seconds : seconds - usual, 1.0 / std::min(comparisons_, kComparisons));
  usual_sum_ = 0;
  usual_count_ = 0;
}

Lookahead::Lookahead(LookaheadMode mode, int layers)
    : mode_(mode), busy_(kFirstBusy), read_(kFirstBytes), busy_seconds_(kFirstSeconds) {
  for (auto& states : layers_) states.resize(static_cast<std::size_t>(layers));
  precision_.fill(kFirstPrecision);
  candidates_.reserve(kRanks);
}

bool Lookahead::wants_guess(Phase phase, int layer) {
  if (mode_ == LookaheadMode::off) return false;
  if (mode_ == LookaheadMode::on) return true;
  LayerState& of = state(phase, layer);
  of.on_trial = phase == Phase::decode;
  of.guess_seconds = 0;
  of.guess = !of.on_trial || trial_.next();
  if (!of.guess) return false;
  return of.fruitless < kPatience || of.fruitless++ % kRetry == 0;
}

void Lookahead::guessed(Phase phase, int layer, double seconds) { state(phase, layer).guess_seconds = seconds; }

void Lookahead::served(Phase phase, int layer, double seconds) {
  LayerState& of = state(phase, layer);
  // The guess for the next layer was made while reads of this one flew: without it the wait had been the longer.
  if (seconds > 0 && static_cast<std::size_t>(layer) + 1 < layers_[0].size()) state(phase, layer + 1).guess_seconds = 0;
  if (!std::exchange(of.on_trial, false)) return;
  trial_.cost(of.guess, seconds + of.guess_seconds);
}

double Lookahead::gain(std::size_t rank, double window, double expert_seconds) const {
  const double inside = std::clamp(window - static_cast<double>(rank) * expert_seconds, 0.0, expert_seconds);
  if (mode_ == LookaheadMode::on) return inside;
  return precision_[rank] * inside - (1 - precision_[rank]) * busy_ * (expert_seconds - inside);
}

std::size_t Lookahead::choose(Phase phase, int layer, std::span<const int> candidates, std::uint64_t expert_bytes,
                              double now) {
  candidates = candidates.first(std::min(candidates.size(), kRanks));
  guessed_layer_ = layer;
  idle_since_ = now;
  candidates_.assign(candidates.begin(), candidates.end());
  LayerState& of = state(phase, layer);
  const double expert_seconds = seconds_to_read(expert_bytes);
  std::size_t chosen = 0;
  while (chosen < candidates.size() && gain(chosen, of.window, expert_seconds) > 0) ++chosen;
  if (chosen > 0) {
    of.fruitless = 0;
  } else if (!candidates.empty() && of.fruitless < kPatience) {
    ++of.fruitless;
  }
  return chosen;
}

void Lookahead::lookup(Phase phase, int layer, std::span<const int> ids, std::size_t other_misses, double now) {
  if (layer != guessed_layer_) return;
  guessed_layer_ = -1;
  move_towards(state(phase, layer).window, now - idle_since_, kWindowWeight);
  move_towards(busy_, other_misses > 0 ? 1 : 0, kShareWeight);
  for (std::size_t rank = 0; rank < candidates_.size(); ++rank) {
    const bool needed = std::binary_search(ids.begin(), ids.end(), candidates_[rank]);
    move_towards(precision_[rank], needed ? 1 : 0, kShareWeight);
  }
}

void Lookahead::measured(std::uint64_t bytes, double seconds) {
  read_ += static_cast<double>(bytes) - kBandwidthWeight * read_;
  busy_seconds_ += seconds - kBandwidthWeight * busy_seconds_;
}

}  // namespace sluice::cache
