#include "cache/regret.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace sluice::cache {
namespace {

constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();

/// When each id of each request of a layer is requested again, as the index of that request in the log.
std::vector<std::uint32_t> next_uses(const RouteLog& log) {
  std::size_t total = 0;
  for (std::size_t i = 0; i < log.size(); ++i) total += log[i].ids.size();
  std::vector<std::uint32_t> next(total);  // in the order of the log's ids
  const auto experts = static_cast<std::size_t>(log.experts());
  std::vector<std::uint32_t> upcoming(static_cast<std::size_t>(log.layers()) * experts, kNever);
  for (std::size_t i = log.size(); i-- > 0;) {
    const RouteLog::Request request = log[i];
    total -= request.ids.size();
    for (std::size_t j = 0; j < request.ids.size(); ++j) {
      std::uint32_t& use = upcoming[static_cast<std::size_t>(request.layer) * experts + request.ids[j]];
      next[total + j] = use;
      use = static_cast<std::uint32_t>(i);
    }
  }
  return next;
}

/// A resident expert and the request that needs it next.
struct Resident {
  std::uint16_t expert;
  std::uint32_t next_use;
};

class BeladyLayer {
 public:
  BeladyLayer(int experts, int slots)
      : slots_(static_cast<std::size_t>(std::min(slots, experts))),
        place_(static_cast<std::size_t>(experts), kNone),
        requested_(static_cast<std::size_t>(experts), 0) {}

  /// Returns the hits.
  std::uint64_t acquire(std::span<const std::uint16_t> ids, std::span<const std::uint32_t> next_use) {
    std::uint64_t hits = 0;
    misses_.clear();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (const std::int32_t at = place_[ids[i]]; at != kNone) {
        ++hits;
        residents_[static_cast<std::size_t>(at)].next_use = next_use[i];
      } else {
        misses_.push_back({ids[i], next_use[i]});
      }
    }
    if (ids.size() > slots_) {
      replace_all(ids, next_use);
      return hits;
    }
    const std::size_t free = slots_ - residents_.size();
    if (misses_.size() > free) {
      for (const std::uint16_t id : ids) requested_[id] = 1;
      evict(misses_.size() - free);
      for (const std::uint16_t id : ids) requested_[id] = 0;
    }
    for (const Resident& miss : misses_) admit(miss);
    return hits;
  }

 private:
  static constexpr std::int32_t kNone = -1;

  void admit(const Resident& expert) {
    place_[expert.expert] = static_cast<std::int32_t>(residents_.size());
    residents_.push_back(expert);
  }

  /// Removes the `count` residents that are needed the latest and were not requested.
  void evict(std::size_t count) {
    candidates_.clear();
    for (const Resident& resident : residents_) {
      if (requested_[resident.expert] == 0) candidates_.push_back(resident);
    }
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count - 1),
                     candidates_.end(), [](const Resident& a, const Resident& b) { return a.next_use > b.next_use; });
    for (const Resident& victim : std::span(candidates_).first(count)) {
      const auto at = static_cast<std::size_t>(place_[victim.expert]);
      place_[victim.expert] = kNone;
      if (at + 1 != residents_.size()) {
        residents_[at] = residents_.back();
        place_[residents_[at].expert] = static_cast<std::int32_t>(at);
      }
      residents_.pop_back();
    }
  }

  /// A request larger than the slots: those of it stay that are needed the soonest.
  void replace_all(std::span<const std::uint16_t> ids, std::span<const std::uint32_t> next_use) {
    for (const Resident& resident : residents_) place_[resident.expert] = kNone;
    residents_.clear();
    candidates_.clear();
    for (std::size_t i = 0; i < ids.size(); ++i) candidates_.push_back({ids[i], next_use[i]});
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(slots_), candidates_.end(),
                     [](const Resident& a, const Resident& b) { return a.next_use < b.next_use; });
    for (const Resident& resident : std::span(candidates_).first(slots_)) admit(resident);
  }

  std::size_t slots_;
  std::vector<std::int32_t> place_;      // [experts] index in residents_, or kNone
  std::vector<std::uint8_t> requested_;  // [experts] bool: by the current request
  std::vector<Resident> residents_;
  std::vector<Resident> misses_, candidates_;  // scratch
};

}  // namespace

Simulation simulate_belady(const RouteLog& log, int slots, std::size_t first_counted) {
  assert(slots >= 1 && log.size() < kNever);
  std::vector<BeladyLayer> layers(static_cast<std::size_t>(log.layers()), BeladyLayer(log.experts(), slots));
  std::vector<std::uint8_t> known(static_cast<std::size_t>(log.layers()) * static_cast<std::size_t>(log.experts()), 0);
  const std::vector<std::uint32_t> next = next_uses(log);
  Simulation result{.layers = std::vector<std::array<LookupCounts, 2>>(layers.size()), .misses = {}};
  result.misses.reserve(log.size());
  std::size_t first_id = 0;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const RouteLog::Request request = log[i];
    const auto layer = static_cast<std::size_t>(request.layer);
    const std::uint64_t hits =
        layers[layer].acquire(request.ids, std::span(next).subspan(first_id, request.ids.size()));
    first_id += request.ids.size();
    std::uint64_t cold = 0;
    for (const std::uint16_t id : request.ids) {
      std::uint8_t& seen = known[layer * static_cast<std::size_t>(log.experts()) + id];
      cold += seen == 0 ? 1 : 0;
      seen = 1;
    }
    result.misses.push_back(static_cast<std::uint16_t>(request.ids.size() - hits));
    if (i < first_counted) continue;
    LookupCounts& counts = result.layers[layer][static_cast<std::size_t>(request.phase)];
    counts.lookups += request.ids.size();
    counts.hits += hits;
    counts.misses_cold += cold;
    counts.misses_capacity += request.ids.size() - hits - cold;
  }
  return result;
}

Regret compute_regret(const RouteLog& log, int slots, const PolicyEntry& policy, std::size_t first_counted) {
  const auto rate = [&](int simulated_slots) {
    return simulate(log, simulated_slots, policy, first_counted).counts(Phase::decode).hit_rate();
  };
  return {.belady_hit_rate = simulate_belady(log, slots, first_counted).counts(Phase::decode).hit_rate(),
          .half_slots_hit_rate = rate(std::max(1, slots / 2)),
          .double_slots_hit_rate = rate(std::min(log.experts(), 2 * slots))};
}

void RouteHistory::add(int layer, Phase phase, std::uint64_t step, std::span<const std::uint16_t> ids,
                       std::span<const ExpertUse> uses) {
  if (step_begin_.empty() || step != last_step_) {
    // Forgetting moves what is left, so it is done for many steps at once.
    if (step_begin_.size() == 2 * kSteps || (log_.size() > 0 && log_.kept(0) >= 2 * kLookups)) trim();
    step_begin_.push_back(log_.size());
    last_step_ = step;
  }
  log_.add(layer, phase, step, ids, uses);
}

const RouteLog& RouteHistory::log() {
  trim();
  return log_;
}

std::size_t RouteHistory::first_counted() const {
  if (complete_) return counted_from_;
  return std::max(counted_from_, step_begin_[std::min<std::size_t>(kWarmUpSteps, step_begin_.size() - 1)]);
}

void RouteHistory::trim() {
  std::size_t steps = 0;  // to forget
  while (steps + 1 < step_begin_.size() &&
         (step_begin_.size() - steps > kSteps || log_.kept(step_begin_[steps]) > kLookups)) {
    ++steps;
  }
  if (steps == 0) return;
  const std::size_t requests = step_begin_[steps];
  log_.drop_front(requests);
  step_begin_.erase(step_begin_.begin(), step_begin_.begin() + static_cast<std::ptrdiff_t>(steps));
  for (std::size_t& begin : step_begin_) begin -= requests;
  counted_from_ -= std::min(counted_from_, requests);
  complete_ = false;
}

}  // namespace sluice::cache
