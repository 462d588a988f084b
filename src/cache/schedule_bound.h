// The schedule bound: how fast a run could have decoded if software cost nothing and only the disk, the memory and the
// order of the layers took time.
//
// One step is replayed over two resources, each of which does one thing at a time at its full rate: memory, which the
// computing threads read weights from, and the disk. With M and D bytes per second, for MoE layers l = 0, 1, ...:
//
//   routed(l)  = computed(l - 1) + before_router_bytes(l) / M           the router's result is known
//   Reads of the layer's misses go one after another at D. Without lookahead none starts before routed(l). With recall
//   r, the first r x misses x read_bytes of them may start at routed(l - 1), once the misses of layer l - 1 are read:
//   the guess is made there, and demand goes first. Layer 0 has nobody to guess for it.
//   The first byte comes no sooner than the disk's latency after it was asked for.
//   Hits and the shared expert are computed from routed(l) on, beside the reads; each missing expert once it has landed
//   and what is before it is computed, at M.
//   computed(l) = when the last expert is computed; the step takes computed(last) + after_bytes / M.
//
// What is left out only makes the bound looser: wrong guesses (they take idle time) and the memory bandwidth that reads
// take. What a faster engine could still gain on it is to begin computing an expert that has
// landed in part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/route_log.h"

namespace sluice::cache {

/// One MoE layer in bytes.
struct ScheduleLayer {
  std::uint64_t before_router_bytes = 0;  // dense weights since the MoE layer before, dense layers included
  std::uint64_t shared_bytes = 0;         // of the shared expert
  std::uint64_t expert_bytes = 0;         // of one routed expert
  std::uint64_t read_bytes = 0;           // read from the disk for one missing expert; at least expert_bytes as a rule
};

struct ScheduleModel {
  std::vector<ScheduleLayer> layers;  // the MoE layers
  std::uint64_t after_bytes = 0;      // dense weights behind the last MoE layer, with the head
};

struct ScheduleRates {
  double disk = 0;              // bytes per second, > 0; may be infinite
  double memory = 0;            // likewise
  double disk_latency = 0;      // seconds, >= 0
  double lookahead_recall = 0;  // share of the misses that were guessed, in [0, 1]
};

/// `layers` equal MoE layers. Of the dense weights a token touches, `head_bytes` come last and the others are spread
/// evenly, none of them as a shared expert.
ScheduleModel even_schedule(int layers, std::uint64_t dense_bytes, std::uint64_t head_bytes, std::uint64_t expert_bytes,
                            std::uint64_t read_bytes);

/// What a step asked of one layer.
struct LayerDemand {
  std::uint32_t lookups = 0;
  std::uint32_t misses = 0;  // of them
};

/// Seconds of one step. `demands` is [layers].
double schedule_seconds(const ScheduleModel& model, const ScheduleRates& rates, std::span<const LayerDemand> demands);

/// Mean seconds of the log's decode steps, counted from request `first_counted` on; none if there are none. `misses` is
/// [requests], as a simulation returns them.
std::optional<double> schedule_seconds(const ScheduleModel& model, const ScheduleRates& rates, const RouteLog& log,
                                       std::span<const std::uint16_t> misses, std::size_t first_counted = 0);

}  // namespace sluice::cache
