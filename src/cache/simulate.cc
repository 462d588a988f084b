#include "cache/simulate.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::cache {

SimulatedLayer::SimulatedLayer(int experts, int slots, const PolicyEntry& policy)
    : policy_(policy.create(experts)),
      slots_(static_cast<std::size_t>(std::min(slots, experts))),
      place_(static_cast<std::size_t>(experts), kAbsent),
      known_(static_cast<std::size_t>(experts), 0),
      requested_(static_cast<std::size_t>(experts), 0),
      waves_(experts) {
  assert(slots >= 1 && experts >= 1);
}

LookupCounts SimulatedLayer::acquire(std::span<const std::uint16_t> ids, std::uint64_t step,
                                     std::span<const ExpertUse> uses) {
  LookupCounts counts;
  hits_.clear();
  misses_.clear();
  touch_request(*policy_, ids, uses, step);
  for (const int id : ids) {
    const auto at = static_cast<std::size_t>(id);
    requested_[at] = 1;
    (resident(id) ? hits_ : misses_).push_back(id);
    if (!resident(id)) ++(known_[at] != 0 ? counts.misses_capacity : counts.misses_cold);
  }
  counts.lookups = ids.size();
  counts.hits = hits_.size();

  if (ids.size() > slots_) {
    // Everything else has left by the time the last expert is read.
    waves_.plan(*policy_, step, static_cast<int>(slots_), hits_, misses_);
    for (const int id : residents_) place_[static_cast<std::size_t>(id)] = kAbsent;
    residents_.clear();
    for (const int id : waves_.staying()) admit(id);
    for (const int id : misses_) known_[static_cast<std::size_t>(id)] = 1;
  } else {
    const std::size_t empty = slots_ - residents_.size();
    if (misses_.size() > empty) evict(misses_.size() - empty, step);
    for (const int id : misses_) admit(id);
  }
  for (const int id : ids) requested_[static_cast<std::size_t>(id)] = 0;
  return counts;
}

void SimulatedLayer::admit(int expert) {
  place_[static_cast<std::size_t>(expert)] = static_cast<int>(residents_.size());
  residents_.push_back(expert);
  known_[static_cast<std::size_t>(expert)] = 1;
}

void SimulatedLayer::evict(std::size_t count, std::uint64_t step) {
  candidates_.clear();
  for (const int id : residents_) {
    if (requested_[static_cast<std::size_t>(id)] == 0) candidates_.push_back(id);
  }
  for (; count > 0; --count) {
    const int victim = policy_->victim(candidates_, step);
    *std::find(candidates_.begin(), candidates_.end(), victim) = candidates_.back();
    candidates_.pop_back();
    const int place = std::exchange(place_[static_cast<std::size_t>(victim)], kAbsent);
    const int moved = residents_.back();
    residents_.pop_back();
    if (moved == victim) continue;
    residents_[static_cast<std::size_t>(place)] = moved;
    place_[static_cast<std::size_t>(moved)] = place;
  }
}

LookupCounts Simulation::counts(Phase phase) const {
  LookupCounts sum;
  for (const auto& layer : layers) sum += layer[static_cast<std::size_t>(phase)];
  return sum;
}

Simulation simulate(const RouteLog& log, int slots, const PolicyEntry& policy, std::size_t first_counted) {
  std::vector<SimulatedLayer> layers;
  layers.reserve(static_cast<std::size_t>(log.layers()));
  for (int layer = 0; layer < log.layers(); ++layer) layers.emplace_back(log.experts(), slots, policy);
  Simulation result{.layers = std::vector<std::array<LookupCounts, 2>>(layers.size()), .misses = {}};
  result.misses.reserve(log.size());
  for (std::size_t i = 0; i < log.size(); ++i) {
    const RouteLog::Request request = log[i];
    const auto layer = static_cast<std::size_t>(request.layer);
    const LookupCounts counts = layers[layer].acquire(request.ids, request.step, request.uses);
    result.misses.push_back(static_cast<std::uint16_t>(counts.lookups - counts.hits));
    if (i >= first_counted) result.layers[layer][static_cast<std::size_t>(request.phase)] += counts;
  }
  return result;
}

}  // namespace sluice::cache
