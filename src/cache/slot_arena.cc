#include "cache/slot_arena.h"

#include "base/units.h"
#include "cache/expert_cache.h"

namespace sluice::cache {
namespace {

// A window starts at most kIoAlignment - 1 bytes before its slice, so it can be one unit longer than the rounded
// slice; the second unit is the slack behind it.
constexpr std::uint64_t kWindowSlack = 2 * kIoAlignment;

}  // namespace

SlotLayout::SlotLayout(const LayerExperts& layer) {
  part_bytes.reserve(static_cast<std::size_t>(layer.parts));
  part_offset.reserve(static_cast<std::size_t>(layer.parts));
  for (int part = 0; part < layer.parts; ++part) {
    const std::uint64_t bytes = layer.slice(0, part).bytes;
    part_bytes.push_back(bytes);
    part_offset.push_back(capacity);
    expert_bytes += bytes;
    capacity += round_up(bytes, kIoAlignment) + kWindowSlack;
  }
}

SlotArena::SlotArena(const SlotLayout& layout, int slots)
    : layout_(layout), memory_(Buffer::allocate(static_cast<std::size_t>(slots) * layout.capacity, "expert slots")) {
  memory_.prefault();
}

std::byte* SlotArena::slot(int index) const {
  return memory_.data() + static_cast<std::size_t>(index) * layout_.capacity;
}

void SlotArena::release(const std::byte* first, std::size_t slots) const {
  memory_.release(static_cast<std::size_t>(first - memory_.data()), slots * layout_.capacity);
}

void SlotArena::prefault(const std::byte* slot) const {
  memory_.prefault(static_cast<std::size_t>(slot - memory_.data()), layout_.capacity);
}

std::uint64_t slot_capacity(const LayerExperts& layer) { return SlotLayout(layer).capacity; }

}  // namespace sluice::cache
