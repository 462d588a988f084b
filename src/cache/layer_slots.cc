#include "cache/layer_slots.h"

#include <cassert>

namespace sluice::cache {

LayerSlots::LayerSlots(int experts, int slots, const PolicyEntry& policy)
    : policy_(policy.create(experts)),
      slots_(static_cast<std::size_t>(slots)),
      slot_of_(static_cast<std::size_t>(experts), kNone),
      was_resident_(static_cast<std::size_t>(experts), 0),
      lookups_(static_cast<std::size_t>(experts), 0),
      in_use_(slots) {
  assert(slots >= 1 && slots <= experts);
  empty_.reserve(slots_.size());
  for (int slot = slots - 1; slot >= 0; --slot) empty_.push_back(slot);
  candidates_.reserve(slots_.size());
}

bool LayerSlots::resident(int expert) const {
  const int index = find(expert);
  return index != kNone && slot(index).state == SlotState::resident;
}

int LayerSlots::claim(int expert, std::uint64_t step) {
  assert(find(expert) == kNone);
  int index = kNone;
  if (!empty_.empty()) {
    index = empty_.back();
    empty_.pop_back();
  } else {
    index = evict(step);
    if (index == kNone) return kNone;
  }
  Slot& slot = at(index);
  assert(slot.pins == 0 && slot.reads_in_flight == 0);
  slot.state = SlotState::reading;
  slot.expert = expert;
  ++slot.generation;
  slot.pins = 1;
  slot_of_[static_cast<std::size_t>(expert)] = index;
  return index;
}

int LayerSlots::evict(std::uint64_t step) {
  candidates_.clear();
  for (const Slot& slot : slots_) {
    if (slot.state == SlotState::resident && slot.pins == 0) candidates_.push_back(slot.expert);
  }
  if (candidates_.empty()) return kNone;
  const int expert = policy_->victim(candidates_, step);
  const int index = find(expert);
  assert(index != kNone);
  slot_of_[static_cast<std::size_t>(expert)] = kNone;
  return index;
}

void LayerSlots::read_ended(int index, std::string_view error) {
  Slot& slot = at(index);
  assert(slot.state == SlotState::reading && slot.reads_in_flight > 0);
  if (slot.error.empty()) slot.error = error;
  if (--slot.reads_in_flight > 0) return;
  const auto expert = static_cast<std::size_t>(slot.expert);
  if (slot.error.empty()) {
    slot.state = SlotState::resident;
    was_resident_[expert] = 1;
  } else {
    slot.state = SlotState::failed;
    slot_of_[expert] = kNone;
  }
}

void LayerSlots::adopt(int index, int reads) {
  Slot& slot = at(index);
  assert(slot.state == SlotState::reading && slot.reads_in_flight == 0);
  slot.reads_in_flight = reads;
  if (reads > 0) return;
  slot.state = SlotState::resident;
  was_resident_[static_cast<std::size_t>(slot.expert)] = 1;
}

int LayerSlots::retire() {
  int index = kNone;
  if (!empty_.empty()) {
    index = empty_.back();
    empty_.pop_back();
  } else {
    index = evict(last_step_);
    if (index == kNone) return kNone;
  }
  Slot& slot = at(index);
  slot.state = SlotState::retired;
  slot.expert = -1;
  ++slot.generation;
  --in_use_;
  return index;
}

void LayerSlots::restore(int index) {
  assert(slot(index).state == SlotState::retired);
  at(index).state = SlotState::empty;
  empty_.push_back(index);
  ++in_use_;
}

void LayerSlots::unpin(int index) {
  Slot& slot = at(index);
  assert(slot.pins > 0);
  if (--slot.pins > 0 || slot.state != SlotState::failed) return;
  slot.state = SlotState::empty;
  slot.expert = -1;
  ++slot.generation;
  slot.error.clear();
  empty_.push_back(index);
}

}  // namespace sluice::cache
