// Slots that go out of use, and their memory with them, while the cache runs.
#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>
#include <vector>

#include "cache/cache_state.h"

namespace sluice::cache {

void ExpertCache::State::settle_retired(const SlotArena& arena) {
  struct Place {
    Layer* layer;
    int slot;
    std::byte*& memory() const { return layer->memory[static_cast<std::size_t>(slot)]; }
    const Slot& state() const { return layer->slots.slot(slot); }
  };
  std::vector<Place> retired;
  std::vector<Place> used;
  for (Layer& of : layers) {
    if (of.layout != &arena.layout()) continue;
    for (int slot = 0; slot < of.slots.slots(); ++slot) {
      (of.slots.slot(slot).state == SlotState::retired ? retired : used).push_back({&of, slot});
    }
  }
  const auto by_address = [](const Place& a, const Place& b) { return a.memory() < b.memory(); };

  // A retired slot alone among others would free one huge page or none; together at the end they free nearly all.
  const auto exchange_memory = [&](const Place& hole, const Place& place) {
    std::byte* const from = place.memory();
    std::byte* const to = hole.memory();
    if (place.state().state == SlotState::resident) {
      std::memcpy(to, from, arena.layout().capacity);
      const auto parts = static_cast<std::size_t>(place.layer->experts.parts);
      const auto first = place.layer->parts.begin() + place.slot * static_cast<std::ptrdiff_t>(parts);
      std::for_each_n(first, parts, [&](const std::byte*& part) { part = to + (part - from); });
    }
    std::swap(hole.memory(), place.memory());
  };
  std::sort(retired.begin(), retired.end(), by_address);
  std::sort(used.rbegin(), used.rend(), by_address);  // highest first
  auto hole = retired.begin();
  for (const Place& place : used) {
    if (hole == retired.end() || hole->memory() > place.memory()) break;
    if (place.state().pins == 0) exchange_memory(*hole++, place);
  }

  std::sort(retired.begin(), retired.end(), by_address);
  for (auto first = retired.begin(); first != retired.end();) {
    auto last = first + 1;
    while (last != retired.end() && last->memory() == (last - 1)->memory() + arena.layout().capacity) ++last;
    arena.release(first->memory(), static_cast<std::size_t>(last - first));
    first = last;
  }
  for (const Place& place : used) {
    if (place.state().state == SlotState::empty) arena.prefault(place.memory());
  }
}

void ExpertCache::use_slots(int per_layer) {
  assert(per_layer >= 1);
  State& state = *state_;
  const std::uint64_t changes_before = state.slots_retired + state.slots_restored;
  for (State::Layer& layer : state.layers) {
    LayerSlots& slots = layer.slots;
    const int wanted = std::min(per_layer, slots.slots());
    while (slots.in_use() > wanted && slots.retire() != LayerSlots::kNone) ++state.slots_retired;
    for (int slot = 0; slots.in_use() < wanted; ++slot) {
      if (slots.slot(slot).state != SlotState::retired) continue;
      slots.restore(slot);
      ++state.slots_restored;
    }
  }
  if (state.slots_retired + state.slots_restored == changes_before) return;
  for (const SlotArena& arena : state.arenas) state.settle_retired(arena);
}

int ExpertCache::slots_in_use(int layer) const { return state_->layer(layer).slots.in_use(); }
std::uint64_t ExpertCache::slots_retired() const { return state_->slots_retired; }
std::uint64_t ExpertCache::slots_restored() const { return state_->slots_restored; }

}  // namespace sluice::cache
