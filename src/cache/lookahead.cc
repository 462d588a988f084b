#include "cache/lookahead.h"

#include <algorithm>

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

void move_towards(double& mean, double value, double weight) { mean += weight * (value - mean); }

}  // namespace

Lookahead::Lookahead(LookaheadMode mode, int layers)
    : mode_(mode), busy_(kFirstBusy), read_(kFirstBytes), busy_seconds_(kFirstSeconds) {
  for (auto& states : layers_) states.resize(static_cast<std::size_t>(layers));
  precision_.fill(kFirstPrecision);
  candidates_.reserve(kRanks);
}

bool Lookahead::wants_guess(Phase phase, int layer) {
  if (mode_ == LookaheadMode::off) return false;
  LayerState& of = state(phase, layer);
  if (mode_ == LookaheadMode::on || of.fruitless < kPatience) return true;
  return of.fruitless++ % kRetry == 0;
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
