// Replays requests through an eviction policy without reading anything: the counts an ExpertCache would have.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/eviction_policy.h"
#include "cache/expert_cache.h"
#include "cache/route_log.h"
#include "cache/waves.h"

namespace sluice::cache {

/// The slots of one layer, by the rules of ExpertCache for one lease at a time, each used to its end. Equal counts are
/// a promise: the policy objects and the plan of requests larger than the slots (waves.h) are the same.
class SimulatedLayer {
 public:
  SimulatedLayer(int experts, int slots, const PolicyEntry& policy);

  /// What acquire() of these distinct ascending ids counts; bytes stay 0.
  LookupCounts acquire(std::span<const std::uint16_t> ids, std::uint64_t step, std::span<const ExpertUse> uses = {});
  bool resident(int expert) const { return place_[static_cast<std::size_t>(expert)] != kAbsent; }

 private:
  static constexpr int kAbsent = -1;

  void admit(int expert);
  /// Removes the policy's first `count` victims among those that were not requested.
  void evict(std::size_t count, std::uint64_t step);

  std::unique_ptr<EvictionPolicy> policy_;
  std::size_t slots_;
  std::vector<int> residents_;           // in no order
  std::vector<int> place_;               // [experts] in residents_, or kAbsent
  std::vector<std::uint8_t> known_;      // [experts] bool: was resident at any time
  std::vector<std::uint8_t> requested_;  // [experts] bool: by the current request
  std::vector<int> hits_, misses_;       // of the current request, ascending
  std::vector<int> candidates_;          // scratch
  Waves waves_;
};

struct Simulation {
  std::vector<std::array<LookupCounts, 2>> layers;  // [layers] by Phase; bytes are 0
  std::vector<std::uint16_t> misses;                // [requests] of each

  LookupCounts counts(Phase phase) const;
};

/// Replays the whole log, from empty slots, through `slots` (>= 1, clipped to the experts) per layer; counts the
/// requests from `first_counted` on.
Simulation simulate(const RouteLog& log, int slots, const PolicyEntry& policy, std::size_t first_counted = 0);

}  // namespace sluice::cache
