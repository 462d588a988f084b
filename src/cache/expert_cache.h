// The slot cache: routed experts in RAM, read on demand straight into stacked per-layer slot buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cache/eviction_policy.h"
#include "cache/expert_record.h"
#include "cache/lookahead.h"
#include "cache/phase.h"
#include "stream/reader.h"

namespace sluice::cache {

/// Counters of one phase, of one layer or of all. hits + misses_cold + misses_capacity = lookups, always. A lookup is
/// one (step, layer, distinct expert).
struct LookupCounts {
  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses_cold = 0;      // this expert has never been here
  std::uint64_t misses_capacity = 0;  // it was here and had to leave
  std::uint64_t bytes_needed = 0;     // of the slices of the experts whose reads were started
  std::uint64_t bytes_read = 0;       // requested from the device for them: needed plus window slack

  /// hits / lookups; none without lookups.
  std::optional<double> hit_rate() const;

  LookupCounts& operator+=(const LookupCounts& other);
  LookupCounts& operator-=(const LookupCounts& earlier);
};

/// Experts that were read before anyone looked them up, of one phase. They change no lookup count: what is looked up
/// and not resident is a miss, also when it is already here.
struct SpeculationCounts {
  std::uint64_t reads = 0;       // experts
  std::uint64_t used = 0;        // of them, looked up and missed: those moved into a slot
  std::uint64_t bytes_read = 0;  // requested from the device
  std::uint64_t bytes_used = 0;  // of the experts used; these stand in LookupCounts::bytes_read as well

  SpeculationCounts& operator-=(const SpeculationCounts& earlier);
};

/// What the drive delivered while it had something to do, latency included.
struct Bursts {
  std::uint64_t bytes = 0;
  double seconds = 0;

  /// 0 if there were none.
  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

struct CacheOptions {
  int slots_per_layer = 0;                       // >= 1; clipped to the number of experts of each layer
  int staging_slots = 0;                         // of each size class, for experts that are read ahead
  LookaheadMode lookahead = LookaheadMode::off;  // when to use them
  std::string policy = "decay";                  // see eviction_policy.h
  double (*seconds)() = steady_seconds;          // the clock that stalls and idle times are measured with
};

/// Decode steps before steady_counts() begins: recorded routes show a stationary hit rate from there on.
inline constexpr int kWarmUpSteps = 32;

/// An expert that is ready to compute with. `parts` points to memory that holds this expert until the lease ends or,
/// if reads of the lease still waited for slots, until the next call of Lease::next(). At least 4 KiB behind the end
/// of every part may be read (their contents are undefined).
struct ReadyExpert {
  int id = 0;                               // expert
  int slot = 0;                             // in its layer
  std::uint32_t generation = 0;             // of the slot: changes whenever the slot gets another expert
  bool hit = false;                         // no read was needed when it was looked up
  std::span<const std::byte* const> parts;  // where each part starts, at any byte address
};

/// What fill() has read.
struct WarmStart {
  std::uint64_t slots = 0;
  std::uint64_t bytes = 0;  // requested from the device
};

class ExpertCache;

/// The experts one layer needs for one step, handed out in batches as they become ready; see ExpertCache::acquire.
/// Pins the slots of the experts handed out and of the reads in flight until it is dropped. Move-only. A dropped lease
/// waits for the reads it started to end (the kernel still writes to their slots); what has landed stays resident.
class Lease {
 public:
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&&) = delete;
  ~Lease();

  /// The next batch, in ascending id, valid until the next call. The first holds all residents (hits) and what was read
  /// ahead and has landed, without waiting, if there is any; each later one holds what has landed since, waiting for at
  /// least one expert. Empty when every expert of the request was handed out. A union larger than the layer's slots
  /// goes through in waves: if reads still wait for slots, next() gives back those of the batches before, but for the
  /// experts that will stay, and hands out few experts at once (waves.h), so that the disk gets their slots soon: those
  /// first that will not stay. Throws Error when a read failed, once for each failed expert: nothing of it stays
  /// visible, the slot is free again when no lease waits for it, and both lease and cache can go on. Throws Error when
  /// reads wait for slots that other leases keep pinned, since waiting would never end; it can be called again once
  /// those are dropped.
  std::span<const ReadyExpert> next();

  /// Whether every expert was there at acquire(), so that the first batch is the whole request.
  bool all_resident() const;

 private:
  friend class ExpertCache;
  struct State;
  explicit Lease(State* state) : state_(state) {}
  State* state_;
};

/// Stacked slots for all MoE layers: one arena per size class (layers whose experts have equal part sizes), allocated
/// and touched once. A slot holds one expert: every part in its own aligned window of slice + 8 KiB, so that O_DIRECT
/// reads land in place and no byte is ever copied.
///
/// Used by one thread (the one that drives the model); reads proceed in the kernel meanwhile. The Reader outlives the
/// cache, the cache outlives its leases, and nobody else uses the Reader while a lease is alive. acquire() and next()
/// allocate nothing in steady state.
class ExpertCache {
 public:
  /// Throws Error if memory cannot be reserved, UsageError if the policy is unknown.
  ExpertCache(std::vector<LayerExperts> layers, const CacheOptions& options, stream::Reader& reader);
  ~ExpertCache();
  ExpertCache(const ExpertCache&) = delete;
  ExpertCache& operator=(const ExpertCache&) = delete;

  /// Looks up distinct expert ids of a layer, in any order: residents are pinned and counted as hits, the others as
  /// misses, and reads of as many as there are free or evictable slots start at once, in ascending id (file) order. Of
  /// a request larger than the slots, the experts that the policy would evict last stay and are read last (waves.h). An
  /// expert that another lease is reading counts as a hit and is handed out when it has landed. Several leases may be
  /// alive at once, of one layer too. `step` is the token counter the policy ages by; it never goes back.
  /// With one lease at a time, each used to its end, residents and counts depend on the sequence of calls alone, never
  /// on the order in which reads land: simulate.h counts the same without reading.
  /// `uses`, which need not outlive the call, are what the policy is told of the last tokens of a request of several
  /// (eviction_policy.h); empty if all ids are of one token.
  Lease acquire(int layer, std::span<const int> ids, Phase phase, std::uint64_t step,
                std::span<const ExpertUse> uses = {});

  /// Whether a guess of what `layer` will be asked for next in `phase` would be of any use now; see lookahead.h.
  bool wants_guess(Phase phase, int layer);
  /// Reads guessed experts of the next lookup of `layer` into staging, `guess` distinct and best first (those beyond
  /// Lookahead::kRanks that are not resident are ignored): as many as the disk is expected to have time for, and not
  /// before all that a lease waits for has landed. That lookup, the next of this layer, takes those it misses from
  /// there and drops the others. Never evicts, and changes neither residents nor lookup counts. A guess replaces one
  /// that was not begun.
  void read_ahead(Phase phase, int layer, std::span<const int> guess);
  /// Waits until no read is under way, so that others may use the Reader. No lease is alive.
  void finish_reads();

  /// Fills the slots with the experts of most heat, `heat` [layers][experts], in file order with many reads in flight,
  /// and tells the policy how hot they are. Experts without heat are not read. Before the first acquire(). No lookups
  /// are counted: a later lookup of what is here is a hit, and one of what was here and left is a capacity miss.
  /// `progress` is told bytes read so far. Throws Error if a read fails.
  WarmStart fill(std::span<const std::vector<double>> heat,
                 const std::function<void(std::uint64_t bytes_read)>& progress);
  /// How often each expert of a layer was looked up, [experts].
  const std::vector<std::uint64_t>& lookups(int layer) const;

  /// Keeps `per_layer` slots of every layer in use (at least 1; at most as many as were made) and gives the memory of
  /// the others back to the kernel, in whole huge pages; or takes slots back into use. The policy's victims leave
  /// first, of every layer alike. Slots that leases pin stay in use: a later call retires them, after their leases.
  /// Experts that stay may be moved in memory unless they are pinned. Not from within a lease's use of the parts of an
  /// expert.
  void use_slots(int per_layer);
  /// Slots of a layer that are in use.
  int slots_in_use(int layer) const;
  /// How many slots, of all layers, use_slots() has retired so far, and taken back.
  std::uint64_t slots_retired() const;
  std::uint64_t slots_restored() const;

  int layers() const;
  int slots(int layer) const;
  int experts(int layer) const;
  bool resident(int layer, int expert) const;

  /// Sum over layers, and one layer.
  LookupCounts counts(Phase phase) const;
  const LookupCounts& counts(int layer, Phase phase) const;
  /// All layers, decode without its first kWarmUpSteps steps.
  const LookupCounts& steady_counts() const;
  const SpeculationCounts& speculation(Phase phase) const;
  /// Seconds next() waited for reads, by phase.
  double stall_seconds(Phase phase) const;
  /// Reads whose last byte next() waited for, since the disk was idle before them.
  const Bursts& bursts(Phase phase) const;
  /// Bytes of all slots, window slack included; without and of staging.
  std::uint64_t slot_bytes() const;
  std::uint64_t staging_bytes() const;
  std::string_view policy() const;

 private:
  friend class Lease;
  struct State;
  std::unique_ptr<State> state_;
};

/// Bytes one slot of such a layer takes: the sum over parts of slice + 8 KiB, rounded to whole windows. The number
/// the memory budget uses.
std::uint64_t slot_capacity(const LayerExperts& layer);

}  // namespace sluice::cache
