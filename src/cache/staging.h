// Memory beside the slots, into which guessed experts are read before anyone has looked them up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/layer_slots.h"
#include "cache/slot_arena.h"

namespace sluice::cache {

/// A place of one slot's size. It holds a guessed expert until the next lookup of its layer; then the expert either
/// moves into a slot (adopt(): the place gets that slot's memory, no byte is copied) or is dropped.
struct StagedExpert {
  enum class State : std::uint8_t {
    free,     // nothing in it; reads of a dropped expert may still be in flight
    staged,   // being read or there
    adopted,  // its reads in flight fill a slot
  };

  const SlotLayout* layout = nullptr;   // of its size class
  std::byte* memory = nullptr;          // where a dropped expert is, and the next will be
  std::vector<const std::byte*> parts;  // [parts] of the expert staged
  State state = State::free;
  int layer = -1;
  int expert = -1;
  int slot = -1;                 // of the layer, when adopted
  int reads_in_flight = 0;       // the kernel still writes to `memory`, or to the slot that adopted it
  std::uint64_t bytes_read = 0;  // requested from the device
  bool failed = false;           // a read of it failed: it is of no use

  bool available() const { return state == State::free && reads_in_flight == 0; }
};

/// The places of all size classes. Bookkeeping only: the cache submits the reads.
class Staging {
 public:
  static constexpr int kNone = -1;

  /// Adds a place; before any other call.
  void add(const SlotLayout& layout, std::byte* memory);

  int size() const { return static_cast<int>(places_.size()); }
  StagedExpert& place(int index) { return places_[static_cast<std::size_t>(index)]; }
  const StagedExpert& place(int index) const { return places_[static_cast<std::size_t>(index)]; }

  /// A place of that size in which nothing is and to which nothing is read, or kNone.
  int find_available(const SlotLayout& layout) const;
  /// The place that holds or awaits an expert that can be used, or kNone.
  int find(int layer, int expert) const;
  /// Reads into any place that have not ended.
  bool reads_in_flight() const { return in_flight_ > 0; }

  /// `expert` will be read into a place with `reads` reads of `bytes` in all; its parts are set by the caller.
  void stage(int index, int layer, int expert, int reads, std::uint64_t bytes);
  /// The expert of a place becomes that of `slot`, which was claimed for it in `slots`: memory and parts are exchanged,
  /// and the slot is ready when the reads in flight have ended.
  void adopt(int index, LayerSlots& slots, int slot, std::byte*& slot_memory, const std::byte** slot_parts);
  /// Empties a place.
  void drop(int index) { place(index).state = StagedExpert::State::free; }
  /// A read into a place ended.
  void read_ended(int index, bool failed);

 private:
  std::vector<StagedExpert> places_;
  int in_flight_ = 0;
};

}  // namespace sluice::cache
