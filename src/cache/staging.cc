#include "cache/staging.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::cache {

void Staging::add(const SlotLayout& layout, std::byte* memory) {
  StagedExpert place;
  place.layout = &layout;
  place.memory = memory;
  place.parts.resize(layout.part_bytes.size());
  places_.push_back(std::move(place));
}

int Staging::find_available(const SlotLayout& layout) const {
  const auto found = std::find_if(places_.begin(), places_.end(), [&](const StagedExpert& place) {
    return place.layout == &layout && place.available();
  });
  return found == places_.end() ? kNone : static_cast<int>(found - places_.begin());
}

int Staging::find(int layer, int expert) const {
  const auto found = std::find_if(places_.begin(), places_.end(), [&](const StagedExpert& place) {
    return place.state == StagedExpert::State::staged && place.layer == layer && place.expert == expert &&
           !place.failed;
  });
  return found == places_.end() ? kNone : static_cast<int>(found - places_.begin());
}

void Staging::stage(int index, int layer, int expert, int reads, std::uint64_t bytes) {
  StagedExpert& at = place(index);
  assert(at.available());
  at.state = StagedExpert::State::staged;
  at.layer = layer;
  at.expert = expert;
  at.reads_in_flight = reads;
  at.bytes_read = bytes;
  at.failed = false;
  in_flight_ += reads;
}

void Staging::adopt(int index, LayerSlots& slots, int slot, std::byte*& slot_memory, const std::byte** slot_parts) {
  StagedExpert& from = place(index);
  assert(from.state == StagedExpert::State::staged && !from.failed);
  std::swap(from.memory, slot_memory);
  std::copy(from.parts.begin(), from.parts.end(), slot_parts);
  from.slot = slot;
  from.state = from.reads_in_flight > 0 ? StagedExpert::State::adopted : StagedExpert::State::free;
  slots.adopt(slot, from.reads_in_flight);
}

void Staging::read_ended(int index, bool failed) {
  StagedExpert& at = place(index);
  assert(at.reads_in_flight > 0);
  at.failed = at.failed || failed;
  --in_flight_;
  if (--at.reads_in_flight == 0 && at.state == StagedExpert::State::adopted) at.state = StagedExpert::State::free;
}

}  // namespace sluice::cache
