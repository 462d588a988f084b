// How fast a model can go at given rates, before it runs: from its sizes and from routes like its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cache/eviction_policy.h"
#include "cache/route_log.h"
#include "model/plan.h"
#include "model/rates.h"

namespace sluice::model {

/// What a token touches, reads and multiplies.
struct TokenSizes {
  std::uint64_t dense_bytes = 0;           // dense weights touched, the head included
  std::uint64_t head_bytes = 0;            // of them
  std::uint64_t token_expert_bytes = 0;    // experts touched, all layers
  std::uint64_t expert_bytes = 0;          // of one expert, on average over layers; 0 for dense models
  std::uint64_t read_bytes = 0;            // read for one missing expert, aligned windows included; likewise
  std::uint64_t dense_weights = 0;         // multiplied with a token of a prompt: without head and shared experts
  std::uint64_t token_expert_weights = 0;  // multiplied with a token in experts, routed and shared
  cache::ScheduleModel schedule;           // the bytes layer by layer
};

TokenSizes token_sizes(const ModelPlan& plan);

/// Routes that stand for those of a run; one decode step is one token.
struct PlanRoutes {
  std::string origin;             // for people: where they come from
  cache::RouteLog log;            // empty for dense models
  std::size_t first_counted = 0;  // request; what is before it fills the slots
};

/// Routes as the nearest profile makes them (routes/nearest_profile.h), at least as many tokens as a prefill chunk has,
/// up to 512. Always the same for the same plan.
PlanRoutes generated_routes(const ModelPlan& plan);

/// Routes from a file (routes/parse_trace.h). Throws Error naming the file if it is not one of this model's, as far as
/// its layers, experts and experts per token tell, or has no decode step.
PlanRoutes recorded_routes(const ModelPlan& plan, const std::filesystem::path& file);

/// Decode once the slots have filled.
struct DecodePrediction {
  int slots_per_layer = 0;
  std::optional<double> hit_rate;  // none for dense models
  double bytes_read = 0;           // per token, from the disk
  double disk_seconds = 0;         // per token, if nothing but the disk took time
  double memory_seconds = 0;       // likewise
  double tok_per_s = 0;            // the schedule bound (cache/schedule_bound.h); 0 unknown

  /// "disk" or "memory", whichever takes longer.
  std::string_view binding() const { return disk_seconds > memory_seconds ? "disk" : "memory"; }
};

/// The share of misses that a plan expects to be guessed a layer ahead: what is assumed of guesses at routes from
/// elsewhere (routes/route_source.h) if there are staging slots to read them into, else 0.
double planned_recall(const ModelPlan& plan);

/// `recall` is the share of misses that is guessed a layer ahead, in [0, 1].
DecodePrediction predict_decode(const TokenSizes& sizes, const Rates& rates, const PlanRoutes& routes, int slots,
                                const cache::PolicyEntry& policy, double recall);

/// A chunk of a prompt. In each layer reads begin when the router has chosen, and only the experts are there to compute
/// meanwhile; so a chunk takes what the dense products take, and then what the experts' products or their reads take,
/// whichever is longer. Attention over earlier positions, recurrences and whatever is no product are left out.
struct PrefillPrediction {
  int tokens = 0;               // of the chunk
  double distinct_experts = 0;  // per layer
  double bytes_read = 0;        // per chunk
  double disk_seconds = 0;      // per chunk, if nothing but the disk took time
  double multiply_seconds = 0;  // likewise
  double expert_seconds = 0;    // of them, with experts: what reads may hide behind
  double tok_per_s = 0;         // 0 unknown, as for dense models, with which multiplication is not measured

  /// "disk" or "multiplication", whichever takes longer.
  std::string_view binding() const { return disk_seconds > multiply_seconds ? "disk" : "multiplication"; }
};

/// Each distinct expert of the chunk that has no slot is read once; with 0 slots that is the first chunk of a prompt
/// that finds nothing in memory. Which experts a chunk uses the routes tell; of one that is longer than they are, as
/// many more as used_share() (prefill_chunk.h) grows.
PrefillPrediction predict_prefill(const TokenSizes& sizes, const Rates& rates, const PlanRoutes& routes,
                                  int chunk_tokens, int slots);

}  // namespace sluice::model
