// Where slots lie in memory: one arena per size class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "cache/expert_record.h"

namespace sluice::cache {

/// What a slot has to hold: one expert, wherever its parts lie in the files (part_reads.h says where they come to lie
/// in the slot).
struct SlotLayout {
  explicit SlotLayout(const LayerExperts& layer);

  std::vector<std::uint64_t> part_bytes;  // [parts] bytes of the slice
  std::uint64_t expert_bytes = 0;         // of all parts together
  std::uint64_t capacity = 0;             // bytes of one slot; a multiple of kIoAlignment
};

/// The slots of all layers of one size class, side by side in one block of memory that is touched when it is made.
class SlotArena {
 public:
  /// Throws Error if the memory cannot be reserved.
  SlotArena(const SlotLayout& layout, int slots);

  /// The memory of one slot: layout().capacity bytes.
  std::byte* slot(int index) const;
  const SlotLayout& layout() const { return layout_; }

  /// Gives the memory of slots that lie side by side back to the kernel, in whole huge pages; see Buffer::release().
  void release(const std::byte* first, std::size_t slots) const;
  /// Touches the memory of a slot, as when the arena was made.
  void prefault(const std::byte* slot) const;

 private:
  SlotLayout layout_;
  Buffer memory_;
};

}  // namespace sluice::cache
