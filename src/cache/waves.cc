#include "cache/waves.h"

#include <algorithm>
#include <cassert>

namespace sluice::cache {

Waves::Waves(int most_experts) {
  staying_.reserve(static_cast<std::size_t>(most_experts));
  scratch_.reserve(static_cast<std::size_t>(most_experts));
}

void Waves::plan(EvictionPolicy& policy, std::uint64_t step, int slots, std::span<const int> hits,
                 std::span<int> misses) {
  const auto room = static_cast<std::size_t>(slots);
  assert(room >= 1 && hits.size() + misses.size() > room);
  staying_.assign(hits.begin(), hits.end());
  staying_.insert(staying_.end(), misses.begin(), misses.end());
  keep_last_victims(policy, step, room, staying_);

  const auto is_hit = [hits](int id) { return std::binary_search(hits.begin(), hits.end(), id); };
  const std::size_t leaving = hits.size() + misses.size() - room;
  const std::size_t most_hits = room - std::min({misses.size(), room, std::max(room - room / 2, leaving)});
  if (static_cast<std::size_t>(std::count_if(staying_.begin(), staying_.end(), is_hit)) > most_hits) {
    staying_.assign(hits.begin(), hits.end());
    keep_last_victims(policy, step, most_hits, staying_);
    scratch_.assign(misses.begin(), misses.end());
    keep_last_victims(policy, step, room - most_hits, scratch_);
    staying_.insert(staying_.end(), scratch_.begin(), scratch_.end());
  }
  std::sort(staying_.begin(), staying_.end());

  scratch_.assign(misses.begin(), misses.end());
  const auto read_last =
      std::copy_if(scratch_.begin(), scratch_.end(), misses.begin(), [this](int id) { return !stays(id); });
  std::copy_if(scratch_.begin(), scratch_.end(), read_last, [this](int id) { return stays(id); });
}

bool Waves::stays(int expert) const { return std::binary_search(staying_.begin(), staying_.end(), expert); }

void Waves::keep_last_victims(EvictionPolicy& policy, std::uint64_t step, std::size_t count, std::vector<int>& ids) {
  while (ids.size() > count) {
    const int leaves = policy.victim(ids, step);
    *std::find(ids.begin(), ids.end(), leaves) = ids.back();
    ids.pop_back();
  }
}

}  // namespace sluice::cache
