// Follows the routes of a running model: for the regret of its statistics, and for a trace file if one is wanted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "cache/regret.h"
#include "model/model.h"
#include "model/routes/trace_writer.h"

namespace sluice::model {

/// Becomes the model's route observer until it is destroyed. Made before the first forward(), it numbers steps as the
/// cache does. Used by the thread that drives the model; the model outlives it.
class RouteRecorder {
 public:
  /// Writes a trace to `trace`, unless that is empty. Throws Error if the file cannot be made.
  RouteRecorder(Model& model, const std::filesystem::path& trace);
  ~RouteRecorder();
  RouteRecorder(const RouteRecorder&) = delete;
  RouteRecorder& operator=(const RouteRecorder&) = delete;

  /// The routes so far, and the trace on its way to the disk. Not during a forward().
  cache::RouteHistory& history();

 private:
  void add_row(cache::Phase phase, int layer, int row, std::span<const int> ids, std::span<const float> weights);
  void finish_request();

  Model& model_;
  cache::RouteHistory history_;
  std::optional<TraceWriter> writer_;
  RouteTrace::Request request_;     // the one whose rows are being seen
  std::vector<std::uint16_t> ids_;  // [rows, top_k] of it
  std::vector<float> weights_;      // likewise
  std::vector<cache::ExpertUse> uses_;
  std::size_t top_k_ = 0;  // experts of each of its rows
};

}  // namespace sluice::model
