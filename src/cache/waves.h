// A request for more experts than its layer has slots goes through the slots in waves. Which of its experts are still
// there at the end is settled before the first read, so that it depends on the history of lookups alone and never on
// the order in which reads land.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/eviction_policy.h"

namespace sluice::cache {

/// Experts that are handed out together while others wait for their slots: while they are computed the disk has only
/// the other slots to read into, and it stands still when those are full (docs/performance.md has the measurement).
constexpr std::size_t most_ready_at_once(int slots) { return static_cast<std::size_t>(slots < 4 ? 1 : slots / 4); }

/// Plans requests. Never allocates after construction.
class Waves {
 public:
  explicit Waves(int most_experts);

  /// Chooses the `slots` (>= 1) experts of a larger request that stay: those the policy would evict last, except that
  /// misses get as many slots as there are experts that do not stay, and at least half, as long as there are misses.
  /// Those slots carry the misses that do not stay before: with fewer the queue of reads is too short (a prompt chunk
  /// for 32 experts in 12 slots stalled 30 % longer when half of them kept hits). `hits` and `misses` are the request's
  /// ids, ascending, no id twice, and all were touched in `step`. Reorders `misses` into the order in which they are to
  /// be read: first those that do not stay, then those that do, each ascending.
  void plan(EvictionPolicy& policy, std::uint64_t step, int slots, std::span<const int> hits, std::span<int> misses);

  /// Plans a request that fits: nothing has to leave before the end.
  void clear() { staying_.clear(); }

  bool stays(int expert) const;
  /// The experts that stay, ascending.
  std::span<const int> staying() const { return staying_; }

 private:
  /// Drops the policy's victims from `ids` until `count` are left.
  static void keep_last_victims(EvictionPolicy& policy, std::uint64_t step, std::size_t count, std::vector<int>& ids);

  std::vector<int> staying_;
  std::vector<int> scratch_;
};

}  // namespace sluice::cache
