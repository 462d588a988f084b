// Slots that are filled before the first step, with the experts that earlier runs used most.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "cache/cache_state.h"

namespace sluice::cache {
namespace {

// A policy that knows nothing of these experts would let the first misses replace them in the order of their ids, so it
// is told of lookups in proportion to their heat. Few: the run's own lookups say more about it than all runs before.
// With 17, as many as decayed frequency would remember of an expert that every token uses, decode lost up to 9 points
// of hits to a cold start; with 2 it is level or better (docs/performance.md).
constexpr double kMostTouches = 2;

/// Experts with any heat, hottest first, at most `count`.
std::vector<int> hottest(std::span<const double> heat, int count) {
  std::vector<int> ids(heat.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [heat](int a, int b) {
    return heat[static_cast<std::size_t>(a)] > heat[static_cast<std::size_t>(b)];
  });
  ids.resize(std::min(ids.size(), static_cast<std::size_t>(count)));
  std::erase_if(ids, [heat](int id) { return !(heat[static_cast<std::size_t>(id)] > 0); });
  return ids;
}

}  // namespace

WarmStart ExpertCache::fill(std::span<const std::vector<double>> heat,
                            const std::function<void(std::uint64_t bytes_read)>& progress) {
  State& state = *state_;
  assert(heat.size() == state.layers.size() && state.reads.empty());
  struct Filling {
    int layer;
    int slot;
  };
  std::vector<Filling> filling;
  WarmStart result;
  for (int layer = 0; layer < layers(); ++layer) {
    const std::vector<double>& lookups = heat[static_cast<std::size_t>(layer)];
    LayerSlots& slots = state.layer(layer).slots;
    const std::vector<int> ids = hottest(lookups, slots.slots());
    for (const int id : ids) {
      const double share = lookups[static_cast<std::size_t>(id)] / lookups[static_cast<std::size_t>(ids.front())];
      for (double touches = std::ceil(share * kMostTouches); touches > 0; --touches) slots.policy().touch(id, 0, 0);
      const int slot = slots.claim(id, 0);
      assert(slot != LayerSlots::kNone);
      result.bytes += state.append_reads(layer, slot);
      filling.push_back({layer, slot});
    }
  }
  result.slots = filling.size();

  // All at once and in the order of the files: the engine keeps its queue full, and the drive reads on.
  std::sort(state.reads.begin(), state.reads.end(), [](const stream::Read& a, const stream::Read& b) {
    return std::tie(a.file, a.offset) < std::tie(b.file, b.offset);
  });
  const std::uint64_t before = state.reader.stats().bytes;
  state.submit_reads();
  while (state.reader.outstanding() > 0) {
    state.poll(true);
    if (progress) progress(state.reader.stats().bytes - before);
  }
  std::string error;
  for (const auto [layer, slot] : filling) {
    LayerSlots& slots = state.layer(layer).slots;
    if (error.empty() && slots.slot(slot).state == SlotState::failed) error = slots.slot(slot).error;
    slots.unpin(slot);
  }
  if (!error.empty()) fail("{}", error);
  return result;
}

}  // namespace sluice::cache
