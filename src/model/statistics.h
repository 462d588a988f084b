// What a run reports: measured speed, cache counts, bytes, memory, and how close it came to the bound.
// Names and units: docs/statistics.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/regret.h"
#include "model/generate.h"
#include "model/model.h"
#include "model/rates.h"
#include "model/routes/route_recorder.h"
#include "model/setting_record.h"

namespace sluice::model {

/// A speed limit and the resource that sets it.
struct Bound {
  double tok_per_s = 0;
  std::string_view resource;  // "disk", "memory" or, of prompts, "multiplication"
};

struct RunStatistics {
  ModelInfo model;
  std::vector<SettingRecord> settings;
  GenerateResult generation;
  cache::LookupCounts prefill_lookups, decode_lookups;
  cache::SpeculationCounts prefill_ahead, decode_ahead;  // experts read before they were asked for
  std::optional<double> steady_hit_rate;    // decode lookups after the first 32 tokens; none if there were fewer
  std::vector<cache::LookupCounts> layers;  // decode, per MoE layer
  double prefill_stall_seconds = 0;
  double decode_stall_seconds = 0;
  cache::Bursts decode_bursts;  // reads that were waited for, from asking to the last byte
  stream::IoStats io;
  stream::IoChoice io_choice;
  std::optional<std::uint64_t> device_bytes;  // see stream/io_counters.h; none if the kernel does not tell
  cache::Regret regret;                       // of the recorded routes; empty without
  std::optional<double> schedule_bound;       // tokens per second, see cache/schedule_bound.h
  Rates rates;                                // what disk and memory deliver
  std::uint64_t rss_peak_bytes = 0;
  std::uint64_t major_faults = 0;
  std::optional<std::uint64_t> huge_page_bytes;  // of the process; none if the kernel does not tell
  std::uint64_t slots_retired = 0;               // because memory was short
  std::uint64_t slots_restored = 0;              // of those, when it no longer was

  /// Tokens per second that disk and memory allow for the bytes this run needed per decoded token; none if unknown.
  std::optional<double> disk_bound() const;
  std::optional<double> memory_bound() const;
  /// The tighter of the two.
  std::optional<Bound> bound() const;
  /// The same for the prompt: what it read, what its chunks touched, and all that its tokens multiply but the scores of
  /// attention.
  std::optional<double> prefill_disk_bound() const;
  std::optional<double> prefill_memory_bound() const;
  std::optional<double> prefill_multiply_bound() const;
  std::optional<Bound> prefill_bound() const;
  /// Expert bytes requested from the device in a phase: for what was missed, and for guesses that were wrong.
  std::uint64_t bytes_read(cache::Phase phase) const;
  /// Share of the decode misses that had been read ahead, in [0, 1]; none if nothing was missed.
  std::optional<double> lookahead_recall() const;
  double decode_speed() const;  // tokens per second; 0 if nothing was decoded
  double prefill_speed() const;
};

/// Gathers everything from a model after a generation. `rates` is asked after the counters were taken, since a probe
/// reads too; without it there are no bounds. `routes` are those of the whole run; without them there is neither regret
/// nor schedule bound. With `since`, counters are counted from there on.
RunStatistics collect_statistics(Model& model, const GenerateResult& generation, std::vector<SettingRecord> settings,
                                 const RatesSource& rates, RouteRecorder* routes = nullptr,
                                 const RunStatistics* since = nullptr);

/// What other caches would have reached, in one line without newline; empty if it is not known.
std::string regret_text(const cache::Regret& regret);
/// Where mapped experts come from and how much the kernel fetched, without newline.
std::string mapped_text(const RunStatistics& statistics);
/// The lines a person reads, newline-terminated.
std::string statistics_text(const RunStatistics& statistics);
/// The documented JSON object, indented.
std::string statistics_json(const RunStatistics& statistics);

}  // namespace sluice::model
