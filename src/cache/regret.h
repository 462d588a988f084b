// What another cache would have done with a run's own requests: a clairvoyant one of the same size, and the same
// policy with half and twice the slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "cache/route_log.h"
#include "cache/simulate.h"

namespace sluice::cache {

/// Belady's policy (L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
/// Journal 5, 1966): whoever has to leave is needed again the latest. Always admits, as the cache does, and the experts
/// of a request are pinned, so no cache that reads on demand has fewer misses. Of a request larger than the slots those
/// stay that are needed again the soonest. From empty slots; counts decode requests from `first_counted` on.
Simulation simulate_belady(const RouteLog& log, int slots, std::size_t first_counted = 0);

/// Hit rates in decode, each none if there were no lookups.
struct Regret {
  std::optional<double> belady_hit_rate;
  std::optional<double> half_slots_hit_rate;    // the run's policy; at least one slot
  std::optional<double> double_slots_hit_rate;  // likewise; at most all experts
};

Regret compute_regret(const RouteLog& log, int slots, const PolicyEntry& policy, std::size_t first_counted = 0);

/// The last steps of a run, kept for compute_regret().
class RouteHistory {
 public:
  /// Steps that are replayed at most; a step that is a prompt chunk counts too and fills the slots, as it did in the
  /// run. Fewer of models that look up more experts than 48 layers with 8 of them do, so that the replays stay well
  /// under a second and the history under 20 MiB.
  static constexpr std::size_t kSteps = 4096;
  static constexpr std::size_t kLookups = kSteps * 48 * 8;

  RouteHistory(int layers, int experts) : log_(layers, experts) {}

  /// The next request; a step number that differs from the last one's begins a step.
  void add(int layer, Phase phase, std::uint64_t step, std::span<const std::uint16_t> ids,
           std::span<const ExpertUse> uses = {});

  /// The last steps within those bounds, or all.
  const RouteLog& log();
  /// The first request that counts: all, unless older ones were forgotten. Then the replays, which begin with empty
  /// slots, warm up for as long as steady_counts() does.
  std::size_t first_counted() const;
  /// What was added until now fills the slots in a replay, but does not count.
  void count_from_here() { counted_from_ = log_.size(); }

 private:
  /// Forgets what is beyond the bounds; the last step stays whatever its size.
  void trim();

  RouteLog log_;
  std::vector<std::size_t> step_begin_;  // of each step: its first request
  std::uint64_t last_step_ = 0;
  bool complete_ = true;          // nothing was forgotten
  std::size_t counted_from_ = 0;  // request
};

}  // namespace sluice::cache
