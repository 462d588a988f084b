// How memory is divided between dense weights, expert slots, caches and scratch: a pure plan, made before anything
// large is reserved.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"

namespace sluice::cache {

/// Program text, stacks, tokenizer tables and the allocator's own needs: counted in every plan.
inline constexpr std::uint64_t kFixedOverheadBytes = 64 * kMiB;

/// What a plan has to place. Byte counts are exact needs, not estimates to be padded.
struct BudgetRequest {
  struct Layer {
    std::uint64_t slot_bytes = 0;  // of one slot, see slot_capacity()
    int experts = 0;
  };

  std::optional<std::uint64_t> memory_limit;  // --memory, bytes: covers everything below
  std::optional<int> cache_slots;             // --cache-slots, per layer
  std::uint64_t available_bytes = 0;          // what the machine has left, see available_memory()
  bool hold_to_available = false;             // the other two too; not to find out what a larger machine would do

  std::uint64_t dense_bytes = 0;              // weights that are always resident
  std::uint64_t kv_bytes = 0;                 // keys and values of the full context
  std::uint64_t recurrent_bytes = 0;          // convolution and recurrent states
  std::uint64_t scratch_fixed_bytes = 0;      // prefill scratch: this much,
  std::uint64_t scratch_bytes_per_token = 0;  // plus this for every token of a chunk
  int wanted_chunk_tokens = 1;                // >= 1
  std::vector<Layer> layers;                  // the MoE layers; empty for a dense model
  int top_k = 0;                              // experts per token: the floor of the slots and the working set
  int staging_slots = 0;                      // for experts that are read ahead, of each size
};

/// A plan. The members add up to total_bytes().
struct Budget {
  int slots_per_layer = 0;  // a layer with fewer experts has as many slots as experts
  int chunk_tokens = 0;     // of prefill
  int staging_slots = 0;    // as asked for, or none
  std::uint64_t dense_bytes = 0;
  std::uint64_t slot_bytes = 0;
  std::uint64_t staging_bytes = 0;
  std::uint64_t kv_bytes = 0;
  std::uint64_t recurrent_bytes = 0;
  std::uint64_t scratch_bytes = 0;
  std::uint64_t overhead_bytes = kFixedOverheadBytes;
  std::optional<std::uint64_t> limit_bytes;  // what the plan had to fit into; none with --cache-slots alone
  std::string origin;                        // where the number of slots comes from, for the user
  std::vector<std::string> notices;          // "requested X, got Y because Z", one line each

  std::uint64_t total_bytes() const;
  /// One line per item and one for the total; no newline at the end.
  std::string table() const;
};

/// Divides memory:
///  - `cache_slots` alone: that many, clipped to the experts there are, whatever it takes.
///  - `memory_limit`: as many slots as fit beside everything else. All experts if they fit, else a whole multiple of
///    top_k: a token's working set is used or missed as one. With `cache_slots` too, those have to fit.
///  - with either and `hold_to_available`: no more than what is available, except for the floor, and a notice.
///  - neither: as with a limit of the available bytes minus a reserve of 1 GiB or 10 %, whichever is more, but never
///    more than half: a small machine with a small model shall work as well.
/// The prefill chunk has its wanted size as long as the floor of the slots fits beside it, because a bigger chunk reads
/// fewer bytes per token than a few more slots would save; below that it shrinks, down to one token.
/// There is no staging where every expert has a slot, and none where it and the floor of the slots do not both fit.
/// Throws Error when the slots asked for are below the floor (top_k) or the smallest plan does not fit; the message
/// then holds the table.
Budget plan_budget(BudgetRequest request);

}  // namespace sluice::cache
