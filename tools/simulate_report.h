// What `sluice simulate` found, as a table, JSON and a chart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/schedule_bound.h"
#include "cache/simulate.h"
#include "model/routes/route_trace.h"

namespace sluice::tools {

/// One policy with one number of slots.
struct SimulatedCache {
  std::string policy;  // or "belady"
  int slots = 0;
  cache::Simulation simulation;
  std::optional<double> tok_per_s;  // the schedule bound
};

/// What speed was predicted from.
struct PredictionInputs {
  std::uint64_t disk_bandwidth = 0, memory_bandwidth = 0;  // bytes per second
  std::uint64_t expert_bytes = 0;                          // of one expert
  std::uint64_t dense_bytes = 0;                           // of the dense weights one token touches
  double lookahead_recall = 0;
  bool exact = false;             // bytes are those of each layer of a checkpoint, else spread evenly
  cache::ScheduleModel schedule;  // the same layer by layer
};

struct SimulationReport {
  std::string source;  // as the user named it
  model::TraceHeader header;
  std::uint64_t prefill_steps = 0, decode_steps = 0;
  int warm_up = 0;  // decode steps that were not counted
  std::optional<PredictionInputs> prediction;
  std::vector<int> slots;              // ascending
  std::vector<std::string> policies;   // in the order of the columns
  std::vector<SimulatedCache> caches;  // [slots, policies]

  const SimulatedCache& cache(std::size_t slots_index, std::size_t policy_index) const {
    return caches[slots_index * policies.size() + policy_index];
  }
};

std::string simulation_text(const SimulationReport& report);
/// The names are those of docs/usage.md.
std::string simulation_json(const SimulationReport& report);
/// Hit rate against slots.
std::string simulation_svg(const SimulationReport& report);

}  // namespace sluice::tools
