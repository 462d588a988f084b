#include "cache/slot_arena.h"

#include "cache/expert_cache.h"
#include "cache/part_reads.h"

namespace sluice::cache {

SlotLayout::SlotLayout(const LayerExperts& layer) {
  part_bytes.reserve(static_cast<std::size_t>(layer.parts));
  for (int part = 0; part < layer.parts; ++part) {
    const std::uint64_t bytes = layer.slice(0, part).bytes;
    part_bytes.push_back(bytes);
    expert_bytes += bytes;
    capacity += part_room(bytes);
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
