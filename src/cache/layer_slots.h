// Which expert is in which slot of one layer: lookup, pins, eviction. Bookkeeping only: no memory, no reads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/eviction_policy.h"

namespace sluice::cache {

/// A slot goes empty -> reading -> resident -> (evicted) reading ..., or from reading to failed, and from there to
/// empty when the last lease that waited for it has seen the error. An empty or evicted slot may be retired: out of use
/// until it is restored.
enum class SlotState : std::uint8_t { empty, reading, resident, failed, retired };

struct Slot {
  SlotState state = SlotState::empty;
  int expert = -1;               // -1 when empty
  std::uint32_t generation = 0;  // changes whenever the slot gets another expert or loses the one it has
  int pins = 0;                  // leases that use it or wait for it
  int reads_in_flight = 0;       // the kernel still writes to it
  std::string error;             // of the first read that failed, else empty
};

/// The slots of one layer. Never allocates after construction, except to keep an error message.
class LayerSlots {
 public:
  static constexpr int kNone = -1;

  LayerSlots(int experts, int slots, const PolicyEntry& policy);

  int slots() const { return static_cast<int>(slots_.size()); }
  /// Those that are not retired.
  int in_use() const { return in_use_; }
  int experts() const { return static_cast<int>(slot_of_.size()); }
  const Slot& slot(int index) const { return slots_[static_cast<std::size_t>(index)]; }

  /// The slot that holds `expert` or is being filled with it, or kNone.
  int find(int expert) const { return slot_of_[static_cast<std::size_t>(expert)]; }
  bool resident(int expert) const;
  /// Whether `expert` was resident at any time until now.
  bool was_resident(int expert) const { return was_resident_[static_cast<std::size_t>(expert)] != 0; }

  /// Counts a lookup of each of the distinct `ids` and tells the policy; `uses` as for touch_request().
  void touch(std::span<const int> ids, std::span<const ExpertUse> uses, std::uint64_t step) {
    touch_request(*policy_, ids, uses, step);
    for (const int id : ids) ++lookups_[static_cast<std::size_t>(id)];
    last_step_ = step;
  }
  EvictionPolicy& policy() { return *policy_; }
  /// How often each expert was looked up, [experts].
  const std::vector<std::uint64_t>& lookups() const { return lookups_; }

  /// Gives `expert`, which has no slot, an empty slot or that of the policy's victim among the unpinned residents.
  /// The slot is `reading` and has one pin. Returns kNone when every slot is pinned.
  int claim(int expert, std::uint64_t step);

  /// `count` reads into the slot are about to be submitted.
  void expect_reads(int slot, int count) { at(slot).reads_in_flight += count; }
  /// One of them ended; `error` is empty on success. The last one makes the slot resident or failed.
  void read_ended(int slot, std::string_view error);

  /// A claimed slot got memory that its expert is already being read into; `reads` of it have not ended.
  void adopt(int slot, int reads);

  /// Takes a slot out of use: an empty one, else that of the policy's victim among the unpinned residents. Returns it,
  /// or kNone when every slot is pinned.
  int retire();
  /// Puts a retired slot back into use, empty.
  void restore(int slot);

  void pin(int slot) { ++at(slot).pins; }
  /// Takes one pin back. A failed slot becomes empty with its last pin.
  void unpin(int slot);

 private:
  Slot& at(int index) { return slots_[static_cast<std::size_t>(index)]; }
  int evict(std::uint64_t step);

  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Slot> slots_;                 // [slots]
  std::vector<int> empty_;                  // slots without an expert; taken from the back
  std::vector<int> slot_of_;                // [experts] slot or kNone
  std::vector<std::uint8_t> was_resident_;  // [experts] bool
  std::vector<std::uint64_t> lookups_;      // [experts]
  std::vector<int> candidates_;             // scratch of evict()
  int in_use_;
  std::uint64_t last_step_ = 0;  // of touch()
};

}  // namespace sluice::cache
