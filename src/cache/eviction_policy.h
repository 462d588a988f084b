// Which expert leaves a full layer. A new policy is one file and one line in eviction_policy.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace sluice::cache {

/// Keeps the history of one layer's experts and ranks them. Deterministic: equal histories give equal victims.
/// Never allocates after construction.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// `expert` was looked up in step `step` (steps never go back; the decode token counter of the cache).
  virtual void touch(int expert, std::uint64_t step) = 0;
  /// The expert among `candidates` (resident, unpinned, not empty) that should leave.
  virtual int victim(std::span<const int> candidates, std::uint64_t step) = 0;
};

struct PolicyEntry {
  std::string_view name;  // as --policy names it
  std::unique_ptr<EvictionPolicy> (*create)(int experts);
};

/// Registered policies, default first: "decay" (exponentially decayed frequency), "lru".
std::span<const PolicyEntry> eviction_policies();

/// Throws UsageError naming --policy and the known names.
const PolicyEntry& eviction_policy(std::string_view name);

}  // namespace sluice::cache
