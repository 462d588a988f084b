#include "cache/expert_cache.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "base/error.h"
#include "cache/cache_state.h"
#include "cache/part_reads.h"

namespace sluice::cache {
namespace {

// Completions taken from the Reader at once; the rest comes with the next poll.
constexpr std::size_t kCompletionsPerPoll = 64;

// A read is tagged with the slot it fills: that outlives any lease, and a slot changes hands only after its last read.
// Those of staging are tagged with this in place of a layer, and the place.
constexpr int kStaging = std::numeric_limits<int>::max();
constexpr std::uint64_t tag_of(int layer, int slot) {
  return static_cast<std::uint64_t>(layer) << 32 | static_cast<std::uint32_t>(slot);
}
constexpr int layer_of(std::uint64_t tag) { return static_cast<int>(tag >> 32); }
constexpr int slot_of(std::uint64_t tag) { return static_cast<int>(tag & 0xffffffff); }

// Slots of a layer are cut to the sizes of its expert 0: a longer part elsewhere would be read over its neighbour.
void check_part_sizes(const LayerExperts& layer, std::size_t index) {
  for (int expert = 1; expert < layer.experts; ++expert) {
    for (int part = 0; part < layer.parts; ++part) {
      const std::uint64_t bytes = layer.slice(expert, part).bytes;
      if (bytes == layer.slice(0, part).bytes) continue;
      fail("MoE layer {}: part {} of expert {} has {} bytes, that of expert 0 has {}; they must be equal", index, part,
           expert, bytes, layer.slice(0, part).bytes);
    }
  }
}

}  // namespace

std::optional<double> LookupCounts::hit_rate() const {
  if (lookups == 0) return std::nullopt;
  return static_cast<double>(hits) / static_cast<double>(lookups);
}

LookupCounts& LookupCounts::operator+=(const LookupCounts& other) {
  lookups += other.lookups;
  hits += other.hits;
  misses_cold += other.misses_cold;
  misses_capacity += other.misses_capacity;
  bytes_needed += other.bytes_needed;
  bytes_read += other.bytes_read;
  return *this;
}

LookupCounts& LookupCounts::operator-=(const LookupCounts& earlier) {
  lookups -= earlier.lookups;
  hits -= earlier.hits;
  misses_cold -= earlier.misses_cold;
  misses_capacity -= earlier.misses_capacity;
  bytes_needed -= earlier.bytes_needed;
  bytes_read -= earlier.bytes_read;
  return *this;
}

SpeculationCounts& SpeculationCounts::operator-=(const SpeculationCounts& earlier) {
  reads -= earlier.reads;
  used -= earlier.used;
  bytes_read -= earlier.bytes_read;
  bytes_used -= earlier.bytes_used;
  return *this;
}

ExpertCache::State::State(std::vector<LayerExperts> layer_experts, const CacheOptions& options,
                          stream::Reader& used_reader)
    : reader(used_reader),
      seconds(options.seconds),
      lookahead(options.staging_slots > 0 ? options.lookahead : LookaheadMode::off,
                static_cast<int>(layer_experts.size())) {
  assert(options.slots_per_layer >= 1);
  const PolicyEntry& policy = eviction_policy(options.policy);
  policy_name = policy.name;

  // First the size classes and how many slots each holds, then the arenas, then the layers that share them.
  struct SizeClass {
    SlotLayout layout;
    int slots;
  };
  std::vector<SizeClass> classes;
  struct Place {
    std::size_t size_class;
    int first_slot;  // in the arena
    int slots;
  };
  std::vector<Place> places;  // [layers]
  for (const LayerExperts& record : layer_experts) {
    assert(record.experts >= 1);
    check_part_sizes(record, places.size());
    const SlotLayout layout(record);
    const auto same = [&](const SizeClass& c) { return c.layout.part_bytes == layout.part_bytes; };
    const auto found = std::find_if(classes.begin(), classes.end(), same);
    const auto index = static_cast<std::size_t>(found - classes.begin());
    if (found == classes.end()) classes.push_back({layout, 0});
    const int slots = std::min(options.slots_per_layer, record.experts);
    places.push_back({index, classes[index].slots, slots});
    classes[index].slots += slots;
  }

  arenas.reserve(classes.size());  // layers point into it
  for (const SizeClass& c : classes) {
    const SlotArena& arena = arenas.emplace_back(c.layout, c.slots + options.staging_slots);
    for (int i = 0; i < options.staging_slots; ++i) staging.add(arena.layout(), arena.slot(c.slots + i));
  }
  guess.candidates.reserve(Lookahead::kRanks);

  std::size_t most_reads = 0;  // of one layer with all its slots in flight
  layers.reserve(layer_experts.size());
  for (std::size_t i = 0; i < layer_experts.size(); ++i) {
    const Place& place = places[i];
    const SlotArena& arena = arenas[place.size_class];
    const int experts = layer_experts[i].experts;
    Layer layer{.experts = std::move(layer_experts[i]),
                .file_order = {},
                .slots = LayerSlots(experts, place.slots, policy),
                .layout = &arena.layout(),
                .memory = {},
                .parts = {}};
    layer.file_order = file_order(layer.experts);
    const auto slots = static_cast<std::size_t>(place.slots);
    layer.memory.reserve(slots);
    for (int slot = 0; slot < place.slots; ++slot) layer.memory.push_back(arena.slot(place.first_slot + slot));
    layer.parts.resize(slots * static_cast<std::size_t>(layer.experts.parts));
    most_reads = std::max(most_reads, slots * max_expert_reads(layer.experts));
    most_experts = std::max(most_experts, static_cast<std::size_t>(experts));
    layers.push_back(std::move(layer));
  }
  reads.reserve(most_reads);
}

Lease::State* ExpertCache::State::new_lease() {
  if (free_leases.empty()) {
    leases.push_back(std::make_unique<Lease::State>(*this, most_experts));
    free_leases.reserve(leases.capacity());  // giving a lease back must not allocate: it happens in a destructor
    return leases.back().get();
  }
  Lease::State* lease = free_leases.back();
  free_leases.pop_back();
  return lease;
}

bool ExpertCache::State::count_decode_step(std::uint64_t step) {
  assert(decode_steps == 0 || step >= last_decode_step);
  if (decode_steps == 0 || step != last_decode_step) ++decode_steps;
  last_decode_step = step;
  return decode_steps > kWarmUpSteps;
}

std::uint64_t ExpertCache::State::append_reads(int layer_index, int slot) {
  Layer& of = layer(layer_index);
  const std::size_t first_read = reads.size();
  const std::uint64_t bytes = append_expert_reads(of.experts, of.file_order, of.slots.slot(slot).expert,
                                                  of.memory[static_cast<std::size_t>(slot)], tag_of(layer_index, slot),
                                                  of.parts_of(slot), reads);
  of.slots.expect_reads(slot, static_cast<int>(reads.size() - first_read));
  return bytes;
}

void ExpertCache::State::submit_reads() {
  if (reads.empty()) return;
  if (bytes_in_flight == 0) {
    busy_since = seconds();
    busy_bytes = 0;
  }
  for (const stream::Read& read : reads) bytes_in_flight += read.length;
  try {
    reader.submit(reads);
  } catch (...) {
    reads.clear();
    throw;
  }
  reads.clear();
}

void ExpertCache::State::poll(bool wait) {
  std::array<stream::Completion, kCompletionsPerPoll> done;
  const std::size_t count = reader.poll(done, wait);
  if (wait && count == 0) fail("expert cache: the reader lost reads that it was given; this is a fault in the program");
  for (const stream::Completion& completion : std::span(done).first(count)) {
    bytes_in_flight -= completion.length;
    busy_bytes += completion.length;
    const int index = slot_of(completion.tag);
    if (layer_of(completion.tag) != kStaging) {
      layer(layer_of(completion.tag)).slots.read_ended(index, completion.error);
      continue;
    }
    const StagedExpert& place = staging.place(index);
    if (place.state == StagedExpert::State::adopted) {
      layer(place.layer).slots.read_ended(place.slot, completion.error);
    }
    staging.read_ended(index, !completion.error.empty());
  }
}

ExpertCache::ExpertCache(std::vector<LayerExperts> layers, const CacheOptions& options, stream::Reader& reader)
    : state_(std::make_unique<State>(std::move(layers), options, reader)) {}

ExpertCache::~ExpertCache() {
  assert(state_->free_leases.size() == state_->leases.size());
  try {
    finish_reads();
  } catch (const std::exception&) {
    state_.release();  // the engine is beyond use and the kernel may write to this memory at any time
  }
}

Lease ExpertCache::acquire(int layer, std::span<const int> ids, Phase phase, std::uint64_t step,
                           std::span<const ExpertUse> uses) {
  Lease lease(state_->new_lease());
  lease.state_->begin(layer, ids, phase, step, uses);
  return lease;
}

bool ExpertCache::wants_guess(Phase phase, int layer) {
  state_->guess_asked = state_->seconds();
  return state_->lookahead.wants_guess(phase, layer);
}

void ExpertCache::read_ahead(Phase phase, int layer, std::span<const int> guess) {
  State& state = *state_;
  state.lookahead.guessed(phase, layer, state.seconds() - state.guess_asked);
  state.guess.layer = layer;
  state.guess.phase = phase;
  state.guess.candidates.clear();
  const LayerSlots& slots = state.layer(layer).slots;
  for (const int expert : guess) {
    if (state.guess.candidates.size() == Lookahead::kRanks) break;
    if (slots.find(expert) == LayerSlots::kNone) state.guess.candidates.push_back(expert);
  }
  state.start_guess();
}

void ExpertCache::State::start_guess() {
  if (guess.layer < 0 || experts_waiting > 0 || bytes_in_flight > 0) return;
  const int guessed_layer = std::exchange(guess.layer, -1);
  const Layer& of = layer(guessed_layer);
  const std::size_t count =
      lookahead.choose(guess.phase, guessed_layer, guess.candidates, of.layout->expert_bytes, seconds());
  SpeculationCounts& counts = speculation[static_cast<std::size_t>(guess.phase)];
  for (const int expert : std::span(guess.candidates).first(count)) {
    const int index = staging.find_available(*of.layout);
    if (index == Staging::kNone) break;
    StagedExpert& place = staging.place(index);
    const std::size_t first_read = reads.size();
    const std::uint64_t bytes = append_expert_reads(of.experts, of.file_order, expert, place.memory,
                                                    tag_of(kStaging, index), place.parts.data(), reads);
    staging.stage(index, guessed_layer, expert, static_cast<int>(reads.size() - first_read), bytes);
    ++counts.reads;
    counts.bytes_read += bytes;
  }
  submit_reads();
}

void ExpertCache::finish_reads() {
  while (state_->staging.reads_in_flight()) state_->poll(true);
}

int ExpertCache::layers() const { return static_cast<int>(state_->layers.size()); }
int ExpertCache::slots(int layer) const { return state_->layer(layer).slots.slots(); }
int ExpertCache::experts(int layer) const { return state_->layer(layer).slots.experts(); }
bool ExpertCache::resident(int layer, int expert) const { return state_->layer(layer).slots.resident(expert); }

const std::vector<std::uint64_t>& ExpertCache::lookups(int layer) const { return state_->layer(layer).slots.lookups(); }

LookupCounts ExpertCache::counts(Phase phase) const {
  LookupCounts sum;
  for (int layer = 0; layer < layers(); ++layer) sum += counts(layer, phase);
  return sum;
}
const LookupCounts& ExpertCache::counts(int layer, Phase phase) const {
  return state_->layer(layer).counts[static_cast<std::size_t>(phase)];
}
const SpeculationCounts& ExpertCache::speculation(Phase phase) const {
  return state_->speculation[static_cast<std::size_t>(phase)];
}
const LookupCounts& ExpertCache::steady_counts() const { return state_->steady; }
double ExpertCache::stall_seconds(Phase phase) const { return state_->stall_seconds[static_cast<std::size_t>(phase)]; }
const Bursts& ExpertCache::bursts(Phase phase) const { return state_->bursts[static_cast<std::size_t>(phase)]; }

std::uint64_t ExpertCache::slot_bytes() const {
  std::uint64_t sum = 0;
  for (const State::Layer& layer : state_->layers) sum += layer.memory.size() * layer.layout->capacity;
  return sum;
}
std::uint64_t ExpertCache::staging_bytes() const {
  std::uint64_t sum = 0;
  for (int i = 0; i < state_->staging.size(); ++i) sum += state_->staging.place(i).layout->capacity;
  return sum;
}
std::string_view ExpertCache::policy() const { return state_->policy_name; }

}  // namespace sluice::cache
