// How fast a model can go at given rates, before it runs: from its sizes and from routes like its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/eviction_policy.h"
#include "cache/route_log.h"
#include "model/plan.h"
#include "model/prompt_probe.h"
#include "model/rates.h"

namespace sluice::model {

/// What a token touches, reads and multiplies.
struct TokenSizes {
  std::uint64_t dense_bytes = 0;         // dense weights touched, the head included
  std::uint64_t head_bytes = 0;          // of them
  std::uint64_t token_expert_bytes = 0;  // experts touched, all layers
  std::uint64_t expert_bytes = 0;        // of one expert, on average over layers; 0 for dense models
  std::uint64_t read_bytes = 0;          // read for one missing expert, aligned windows included; likewise
  std::uint64_t expert_weights = 0;      // of one expert, on average over layers: multiplied with a token
  std::uint64_t shared_weights = 0;      // of the shared experts, all layers: likewise
  cache::ScheduleModel schedule;         // the bytes layer by layer
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

/// A chunk at the beginning of a prompt.
struct PrefillPrediction {
  int tokens = 0;               // of the chunk
  double distinct_experts = 0;  // per layer
  double bytes_read = 0;        // per chunk
  double disk_seconds = 0;      // per chunk, if nothing but the disk took time
  double multiply_seconds = 0;  // likewise, of computing, whatever it is
  double expert_seconds = 0;    // of them, with experts: what reads may hide behind
  double wait_seconds = 0;      // per chunk, for reads while there is nothing to compute
  double tok_per_s = 0;         // 0 unknown

  /// "disk" or "multiplication", whichever takes longer.
  std::string_view binding() const { return disk_seconds > multiply_seconds ? "disk" : "multiplication"; }
};

/// Where the experts of a chunk go.
struct PrefillSlots {
  int per_layer = 0;
  int filled = 0;  // of them: those that hold an expert when the chunk begins
};

/// How many tokens of a chunk use each expert of each MoE layer, [layers][experts].
using ChunkRows = std::vector<std::vector<double>>;

/// Those of a chunk that is routed as the first decode steps are. A chunk that is longer than the routes gives each
/// expert more tokens in proportion, and uses as many more experts as used_share() (prefill_chunk.h) grows, one token
/// each.
ChunkRows chunk_rows(const cache::RouteLog& log, int chunk_tokens);

/// The mean number of experts per layer that have tokens.
double distinct_experts(const ChunkRows& rows);

/// Seconds of one MoE layer.
struct PrefillLayerSeconds {
  double compute = 0;
  double wait = 0;  // the layer takes both
};

/// Replays the experts of a layer: filled slots hold those with most tokens, which are computed first. The others are
/// read one after the other, each asked for as soon as there is a slot, which is free when its last expert has been
/// computed; its first byte comes no sooner than `latency` after that. An expert is computed when it has been read and
/// those before it are done. `rows` is [experts], `row_seconds` what one row of an expert takes, `read_seconds` what
/// one expert takes to read. Computing begins with `shared_seconds` that need no expert. per_layer >= 1 unless nothing
/// is read.
PrefillLayerSeconds prefill_layer_seconds(const std::vector<double>& rows, PrefillSlots slots, double row_seconds,
                                          double read_seconds, double latency, double shared_seconds);

/// The blocks take what they were measured to, then each MoE layer what prefill_layer_seconds() makes of the measured
/// rates: those of `prompt` where something is read, else rates.multiply. Without experts, the blocks are all. `rows`
/// is what chunk_rows() gives for as many tokens.
PrefillPrediction predict_prefill(const TokenSizes& sizes, const Rates& rates, const PromptRates& prompt,
                                  const ChunkRows& rows, int chunk_tokens, PrefillSlots slots);

}  // namespace sluice::model
