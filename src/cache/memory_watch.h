// Decides how many slots a running cache may keep, from what the kernel says about memory. No memory, no files: clock
// and kernel are given to it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "cache/available_memory.h"

namespace sluice::cache {

/// What it watches over.
struct WatchedSlots {
  int most = 0;                 // per layer, as planned
  int least = 0;                // per layer: the experts of one token
  std::uint64_t row_bytes = 0;  // one slot of every layer; > 0
};

/// Shrinks the cache as soon as the machine is short of memory, before it thrashes, and lets it grow again when that
/// has been over for a while. Used by one thread.
///
/// Two signs, and an answer to each:
///  - Little is available: less than a low mark. The cache gives back at once what is missing to the high mark. While
///    others take memory, both marks rise by what they take before an answer can help.
///  - Paging: major faults, or tasks stalled for memory, in three samples in a row. How much is missing is not known:
///    an eighth of the slots goes, again and again while it lasts, from any size to a tenth in 20 samples, 2 seconds.
///    Stalls alone do not count, because they may be another program's that its own limit holds: the process must have
///    faulted too, or little more than the low mark be available.
///
/// Why it does not swing: it grows only after a wait without a sign, by a sixteenth, and only if the high mark is still
/// available afterwards, so that no growth crosses the low mark by itself, a third of the high one. A sign soon
/// after a growth says that the growth was too much: the wait then doubles, up to five minutes, so that probing for a
/// limit that is only seen by paging costs about a second in five minutes. Five calm minutes set it back.
class MemoryWatch {
 public:
  struct Advice {
    int slots = 0;       // per layer, to be kept from now on; between least and most
    std::string reason;  // for the user: what was seen
  };

  MemoryWatch(const WatchedSlots& slots, std::function<MemoryPressure()> read, std::function<double()> seconds);

  /// Called often, between the steps of a model: reads the kernel at most every kSampleSeconds. Advice if the number of
  /// slots should change. Never throws: what cannot be read is no sign.
  std::optional<Advice> poll();

 private:
  std::optional<Advice> shrink(int slots, double now, std::string reason);
  std::optional<Advice> grow(const AvailableMemory& available, double now);

  WatchedSlots slots_;
  std::function<MemoryPressure()> read_;
  std::function<double()> seconds_;
  int in_use_;
  double sampled_;                      // when
  std::optional<MemoryPressure> last_;  // what was read then
  int paging_samples_ = 0;              // in a row
  double calm_since_;                   // no sign and no change since
  double grown_;                        // when it grew last
  double wait_;                         // of calm before it grows
};

/// Reading takes a tenth of a millisecond, so this costs a thousandth of the time.
inline constexpr double kSampleSeconds = 0.1;

}  // namespace sluice::cache
