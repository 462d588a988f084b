#include <algorithm>
#include <cassert>
#include <exception>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "cache/cache_state.h"

namespace sluice::cache {

Lease::State::State(ExpertCache::State& owner, std::size_t most_experts)
    : cache(owner), waves(static_cast<int>(most_experts)) {
  waiting.reserve(most_experts);
  in_flight.reserve(most_experts);
  ready.reserve(most_experts);
  handed_out.reserve(most_experts);
  staying.reserve(most_experts);
  hits.reserve(most_experts);
  batch.reserve(most_experts);
}

void Lease::State::begin(int layer_index, std::span<const int> ids, Phase of_phase, std::uint64_t at_step,
                         std::span<const ExpertUse> uses) {
  layer = layer_index;
  phase = of_phase;
  step = at_step;
  waited = 0;
  steady = phase == Phase::decode && cache.count_decode_step(step);
  LayerSlots& slots = cache.layer(layer).slots;

  // All hits are pinned before the first victim is chosen: an expert of this request never makes room for another.
  waiting.assign(ids.begin(), ids.end());
  std::sort(waiting.begin(), waiting.end());
  assert(std::adjacent_find(waiting.begin(), waiting.end()) == waiting.end());
  hits.clear();
  settle_guess(waiting);
  slots.touch(waiting, uses, step);
  std::size_t misses = 0;
  for (const int expert : waiting) {
    count(&LookupCounts::lookups, 1);
    const int slot = slots.find(expert);
    if (slot == LayerSlots::kNone) {
      count(slots.was_resident(expert) ? &LookupCounts::misses_capacity : &LookupCounts::misses_cold, 1);
      waiting[misses++] = expert;
      continue;
    }
    count(&LookupCounts::hits, 1);
    hits.push_back(expert);
    slots.pin(slot);
    const bool landed = slots.slot(slot).state == SlotState::resident;
    (landed ? ready : in_flight).push_back({.slot = slot, .hit = true, .own_reads = false});
  }
  waiting.resize(misses);
  cache.experts_waiting += misses;
  plan_waves();
  start_reads();
  take_landed();
  all_resident = !has_waiting() && in_flight.empty();
}

void Lease::State::settle_guess(std::span<const int> ids) {
  if (cache.staging.size() == 0) return;  // nothing was read ahead, and the lookahead is off
  if (cache.staging.reads_in_flight()) cache.poll(false);
  const LayerSlots& slots = cache.layer(layer).slots;
  const auto missing = [&](int expert) { return slots.find(expert) == LayerSlots::kNone; };
  auto others = static_cast<std::size_t>(std::count_if(ids.begin(), ids.end(), missing));
  for (int i = 0; i < cache.staging.size(); ++i) {
    const StagedExpert& place = cache.staging.place(i);
    if (place.state != StagedExpert::State::staged || place.layer != layer) continue;
    if (!place.failed && missing(place.expert) && std::binary_search(ids.begin(), ids.end(), place.expert)) {
      --others;
    } else {
      cache.staging.drop(i);
    }
  }
  cache.lookahead.lookup(phase, layer, ids, others, cache.seconds());
}

void Lease::State::plan_waves() {
  waves.clear();
  const LayerSlots& slots = cache.layer(layer).slots;
  int room = static_cast<int>(hits.size());
  for (int index = 0; index < slots.slots(); ++index) {
    const Slot& slot = slots.slot(index);
    room += slot.pins == 0 && slot.state != SlotState::retired ? 1 : 0;
  }
  if (room == 0 || hits.size() + waiting.size() <= static_cast<std::size_t>(room)) return;
  waves.plan(cache.layer(layer).slots.policy(), step, room, hits, waiting);
}

std::span<const ReadyExpert> Lease::State::next() {
  if (has_waiting()) {
    release(handed_out);
    start_reads();
    if (ready.empty() && in_flight.empty()) {  // other leases have taken slots that the plan counted on
      release(staying);
      start_reads();
    }
  }
  if (ready.empty()) wait_for_landing();

  ExpertCache::State::Layer& of = cache.layer(layer);
  const auto order = [&](const Pinned& pinned) {
    const int expert = of.slots.slot(pinned.slot).expert;
    return std::pair(waves.stays(expert), expert);
  };
  const auto portion = ready.begin() + static_cast<std::ptrdiff_t>(std::min(ready.size(), most_at_once()));
  // Chooses; nothing to do where all are taken.
  std::nth_element(ready.begin(), portion, ready.end(),
                   [&](const Pinned& a, const Pinned& b) { return order(a) < order(b); });
  const auto parts = static_cast<std::size_t>(of.experts.parts);
  batch.clear();
  for (const Pinned& pinned : std::span(ready.begin(), portion)) {
    const Slot& slot = of.slots.slot(pinned.slot);
    batch.push_back({.id = slot.expert,
                     .slot = pinned.slot,
                     .generation = slot.generation,
                     .hit = pinned.hit,
                     .parts = std::span(of.parts).subspan(static_cast<std::size_t>(pinned.slot) * parts, parts)});
    (waves.stays(slot.expert) ? staying : handed_out).push_back(pinned.slot);
  }
  ready.erase(ready.begin(), portion);
  std::sort(batch.begin(), batch.end(), [](const ReadyExpert& a, const ReadyExpert& b) { return a.id < b.id; });
  return batch;
}

std::size_t Lease::State::most_at_once() const {
  if (!has_waiting()) return ready.size();
  return most_ready_at_once(cache.layer(layer).slots.in_use());
}

void Lease::State::end() noexcept {
  cache.lookahead.served(phase, layer, waited);
  LayerSlots& slots = cache.layer(layer).slots;
  const auto written_to = [&](const Pinned& pinned) {
    return pinned.own_reads && slots.slot(pinned.slot).reads_in_flight > 0;
  };
  try {
    while (std::any_of(in_flight.begin(), in_flight.end(), written_to)) cache.poll(true);
  } catch (const std::exception&) {
    // The engine is beyond use and the kernel may write to these slots at any time: they stay pinned for good.
    std::erase_if(in_flight, written_to);
  }
  for (const Pinned& pinned : in_flight) slots.unpin(pinned.slot);
  for (const Pinned& pinned : ready) slots.unpin(pinned.slot);
  in_flight.clear();
  ready.clear();
  release(handed_out);
  release(staying);
  cache.experts_waiting -= waiting.size() - next_waiting;
  waiting.clear();
  next_waiting = 0;
  cache.free_leases.push_back(this);
}

void Lease::State::count(std::uint64_t LookupCounts::*counter, std::uint64_t amount) {
  cache.layer(layer).counts[static_cast<std::size_t>(phase)].*counter += amount;
  if (steady) cache.steady.*counter += amount;
}

void Lease::State::start_reads() {
  ExpertCache::State::Layer& of = cache.layer(layer);
  for (; has_waiting(); ++next_waiting, --cache.experts_waiting) {
    const int expert = waiting[next_waiting];
    int slot = of.slots.find(expert);
    if (slot != LayerSlots::kNone) {  // another lease has asked for it since, and found a slot
      of.slots.pin(slot);
      in_flight.push_back({.slot = slot, .hit = false, .own_reads = false});
      continue;
    }
    slot = of.slots.claim(expert, step);
    if (slot == LayerSlots::kNone) break;
    in_flight.push_back({.slot = slot, .hit = false, .own_reads = true});
    count(&LookupCounts::bytes_needed, of.layout->expert_bytes);
    if (adopt_staged(slot)) continue;
    count(&LookupCounts::bytes_read, cache.append_reads(layer, slot));
  }
  cache.submit_reads();
}

bool Lease::State::adopt_staged(int slot) {
  ExpertCache::State::Layer& of = cache.layer(layer);
  const int index = cache.staging.find(layer, of.slots.slot(slot).expert);
  if (index == Staging::kNone) return false;
  const std::uint64_t bytes = cache.staging.place(index).bytes_read;
  cache.staging.adopt(index, of.slots, slot, of.memory[static_cast<std::size_t>(slot)], of.parts_of(slot));
  count(&LookupCounts::bytes_read, bytes);
  SpeculationCounts& counts = cache.speculation[static_cast<std::size_t>(phase)];
  ++counts.used;
  counts.bytes_used += bytes;
  return true;
}

void Lease::State::take_landed() {
  LayerSlots& slots = cache.layer(layer).slots;
  const auto is = [&slots](SlotState state) {
    return [&slots, state](const Pinned& pinned) { return slots.slot(pinned.slot).state == state; };
  };
  if (const auto failed = std::find_if(in_flight.begin(), in_flight.end(), is(SlotState::failed));
      failed != in_flight.end()) {
    const int slot = failed->slot;
    const std::string message =
        fmt::format("MoE layer {}, expert {}: {}", layer, slots.slot(slot).expert, slots.slot(slot).error);
    in_flight.erase(failed);
    slots.unpin(slot);
    throw Error(message);
  }
  const auto landed = is(SlotState::resident);
  std::copy_if(in_flight.begin(), in_flight.end(), std::back_inserter(ready), landed);
  std::erase_if(in_flight, landed);
}

void Lease::State::wait_for_landing() {
  take_landed();
  if (ready.empty() && !in_flight.empty()) {
    cache.poll(false);
    cache.start_guess();
  }
  take_landed();
  while (ready.empty() && !in_flight.empty()) {
    const double begin = cache.seconds();
    cache.poll(true);
    const double end = cache.seconds();
    cache.stall_seconds[static_cast<std::size_t>(phase)] += end - begin;
    waited += end - begin;
    if (cache.bytes_in_flight == 0) {
      Bursts& bursts = cache.bursts[static_cast<std::size_t>(phase)];
      bursts.bytes += cache.busy_bytes;
      bursts.seconds += end - cache.busy_since;
      cache.lookahead.measured(cache.busy_bytes, end - cache.busy_since);
    }
    cache.start_guess();
    take_landed();
  }
  if (ready.empty() && has_waiting()) {
    fail("MoE layer {}: {} experts wait for a slot while other leases pin all {}; drop those or use more --cache-slots",
         layer, waiting.size() - next_waiting, cache.layer(layer).slots.in_use());
  }
}

void Lease::State::release(std::vector<int>& pinned) {
  LayerSlots& slots = cache.layer(layer).slots;
  for (const int slot : pinned) slots.unpin(slot);
  pinned.clear();
}

Lease::Lease(Lease&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Lease::~Lease() {
  if (state_ != nullptr) state_->end();
}

std::span<const ReadyExpert> Lease::next() { return state_->next(); }

bool Lease::all_resident() const { return state_->all_resident; }

}  // namespace sluice::cache
