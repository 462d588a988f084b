// Which expert leaves a full layer. A new policy is one file and one line in eviction_policy.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace sluice::cache {

/// A use of an expert by one of the last tokens of a request.
struct ExpertUse {
  std::uint16_t expert = 0;
  std::uint16_t age = 0;  // tokens of the request that came after it; below kRecentTokens
};

/// A request of several tokens (a prompt chunk) tells the policy which experts each of its last tokens used, because
/// those are the ones the text goes on with. What is older counts as one use of this age: replays with twice as many
/// differ by less than a point (docs/performance.md).
inline constexpr int kRecentTokens = 48;

/// Calls add(ExpertUse) for what the last of `rows` tokens used, in order; row_ids(row) are the experts of one. A
/// single token needs no such list: it uses the experts of its request.
template <typename RowIds, typename Add>
void for_recent_uses(std::size_t rows, RowIds row_ids, Add add) {
  if (rows < 2) return;
  for (std::size_t row = rows - std::min<std::size_t>(rows, kRecentTokens); row < rows; ++row) {
    for (const auto id : row_ids(row)) {
      add(ExpertUse{static_cast<std::uint16_t>(id), static_cast<std::uint16_t>(rows - 1 - row)});
    }
  }
}

/// Keeps the history of one layer's experts and ranks them. Deterministic: equal histories give equal victims.
/// Never allocates after construction.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  /// `expert` was used in step `step` (steps never go back; the decode token counter of the cache), by a token with
  /// `age` others after it in that step, in [0, kRecentTokens]. Within a step in any order.
  virtual void touch(int expert, std::uint64_t step, int age) = 0;
  /// The expert among `candidates` (resident, unpinned, not empty) that should leave.
  virtual int victim(std::span<const int> candidates, std::uint64_t step) = 0;
};

/// Tells the policy of a request for the distinct `ids`. `uses` are those of its last tokens; empty if it is of one.
template <typename Id>
void touch_request(EvictionPolicy& policy, std::span<const Id> ids, std::span<const ExpertUse> uses,
                   std::uint64_t step) {
  for (const Id id : ids) policy.touch(id, step, uses.empty() ? 0 : kRecentTokens);
  for (const ExpertUse& use : uses) policy.touch(use.expert, step, use.age);
}

struct PolicyEntry {
  std::string_view name;  // as --policy names it
  std::unique_ptr<EvictionPolicy> (*create)(int experts);
};

/// Registered policies, default first: "decay" (exponentially decayed frequency), "lru".
std::span<const PolicyEntry> eviction_policies();

/// Throws UsageError naming --policy and the known names.
const PolicyEntry& eviction_policy(std::string_view name);

}  // namespace sluice::cache
