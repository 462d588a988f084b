// What ExpertCache and its leases share. Included by expert_cache.cc and lease.cc only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "cache/expert_cache.h"
#include "cache/layer_slots.h"
#include "cache/slot_arena.h"
#include "cache/staging.h"
#include "cache/waves.h"

namespace sluice::cache {

struct ExpertCache::State {
  struct Layer {
    LayerExperts experts;
    std::vector<int> file_order;  // [parts] see part_reads.h
    LayerSlots slots;
    const SlotLayout* layout;              // of its size class
    std::vector<std::byte*> memory;        // [slots] where each slot lies in the arena
    std::vector<const std::byte*> parts;   // [slots, parts] where each part of the slot's expert starts
    std::array<LookupCounts, 2> counts{};  // by Phase

    const std::byte** parts_of(int slot) {
      return &parts[static_cast<std::size_t>(slot) * static_cast<std::size_t>(experts.parts)];
    }
  };

  /// What read_ahead() was told and has not begun.
  struct Guess {
    int layer = -1;  // -1: nothing
    Phase phase = Phase::decode;
    std::vector<int> candidates;
  };

  State(std::vector<LayerExperts> layer_experts, const CacheOptions& options, stream::Reader& used_reader);

  Layer& layer(int index) { return layers[static_cast<std::size_t>(index)]; }

  /// A lease state from the pool; made when all are in use.
  Lease::State* new_lease();
  /// Whether a lookup in decode step `step` comes after the warm-up.
  bool count_decode_step(std::uint64_t step);
  /// Appends the reads that fill `slot` of a layer with the expert it was claimed for, and points its parts there.
  /// Returns the bytes requested.
  std::uint64_t append_reads(int layer, int slot);
  /// Reads from the guess what is worth it, once nothing is in flight or waits.
  void start_guess();
  /// Submits the appended reads.
  void submit_reads();
  /// Takes what has landed; waits for at least one read if `wait`.
  void poll(bool wait);

  /// Moves experts so that the retired slots of an arena lie at its end, and gives their memory back; touches that of
  /// the empty ones.
  void settle_retired(const SlotArena& arena);

  stream::Reader& reader;
  std::string_view policy_name;  // of the registry
  double (*seconds)();
  std::vector<SlotArena> arenas;  // one per size class
  std::vector<Layer> layers;
  Staging staging;
  Lookahead lookahead;
  Guess guess;
  double guess_asked = 0;                          // when wants_guess() was
  std::uint64_t bytes_in_flight = 0;               // requested and not landed
  double busy_since = 0;                           // when bytes_in_flight last was 0
  std::uint64_t busy_bytes = 0;                    // landed since then
  std::size_t experts_waiting = 0;                 // for a slot, of all leases
  std::array<SpeculationCounts, 2> speculation{};  // by Phase
  LookupCounts steady;
  std::uint64_t slots_retired = 0;
  std::uint64_t slots_restored = 0;
  std::array<double, 2> stall_seconds{};  // by Phase
  std::array<Bursts, 2> bursts{};         // likewise
  std::uint64_t decode_steps = 0;         // distinct steps of decode lookups so far
  std::uint64_t last_decode_step = 0;
  std::size_t most_experts = 0;     // of any layer
  std::vector<stream::Read> reads;  // appended, not yet submitted
  std::vector<std::unique_ptr<Lease::State>> leases;
  std::vector<Lease::State*> free_leases;
};

struct Lease::State {
  /// A slot that the lease has pinned and not yet handed out.
  struct Pinned {
    int slot;
    bool hit;
    bool own_reads;  // this lease started its reads, so it must not end before they do
  };

  State(ExpertCache::State& owner, std::size_t most_experts);

  /// Looks up ids and starts reads; the beginning of a lease.
  void begin(int layer_index, std::span<const int> ids, Phase of_phase, std::uint64_t at_step,
             std::span<const ExpertUse> uses);
  std::span<const ReadyExpert> next();
  /// Waits for the lease's own reads, unpins everything and returns to the pool.
  void end() noexcept;

  ExpertCache::State& cache;
  int layer = 0;
  Phase phase = Phase::decode;
  std::uint64_t step = 0;
  bool steady = false;        // counted in steady_counts()
  bool all_resident = false;  // when it began
  double waited = 0;          // seconds

  // An id moves from waiting (no slot yet) through in_flight (being read) to ready, and at last is handed out.
  std::vector<int> waiting;  // expert ids in the order of reading; those before next_waiting have left
  std::size_t next_waiting = 0;
  std::vector<Pinned> in_flight;
  std::vector<Pinned> ready;
  std::vector<int> handed_out;     // slots, pinned until reads that wait need them
  std::vector<int> staying;        // slots handed out whose experts the plan keeps: pinned until the lease ends
  std::vector<ReadyExpert> batch;  // what next() returned last
  std::vector<int> hits;           // expert ids of the request that had a slot when it was looked up
  Waves waves;                     // which experts stay, of a request larger than the slots

 private:
  bool has_waiting() const { return next_waiting < waiting.size(); }
  void count(std::uint64_t LookupCounts::*counter, std::uint64_t amount);
  /// Plans a request that does not fit into the slots that other leases leave.
  void plan_waves();
  /// Drops what was guessed for this lookup and is not missing, and tells the lookahead how good the guess was.
  void settle_guess(std::span<const int> ids);
  /// Gives slots to waiting experts for as long as there are any.
  void start_reads();
  /// Takes the expert of a claimed slot from staging if it is there. Otherwise false.
  bool adopt_staged(int slot);
  /// Moves what has landed from in_flight to ready. Throws Error for one failed expert, having let it go.
  void take_landed();
  void wait_for_landing();
  /// How many experts the next batch may have.
  std::size_t most_at_once() const;
  void release(std::vector<int>& pinned);
};

}  // namespace sluice::cache
