// A recorded run's routing decisions, in memory. What they look like in a file: parse_trace.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/route_log.h"

namespace sluice::model {

/// Bounds of what a trace may hold, so that tables by layer and expert stay small whatever a file says. The largest
/// published models have 94 MoE layers and 896 experts per layer.
inline constexpr int kMaxTraceLayers = 1024;
inline constexpr int kMaxTraceExperts = 8192;

/// The sizes that a trace names, 0 or empty where it does not.
struct TraceHeader {
  std::string model;
  int layers = 0;                  // MoE layers
  int experts = 0;                 // of the largest layer
  int top_k = 0;                   // experts per row at most
  std::uint64_t expert_bytes = 0;  // of one expert, on average over layers
  std::uint64_t dense_bytes = 0;   // dense weights that one token touches
};

/// Rows in the order in which a model routed them. A request is what one layer asked of the cache in one step: all rows
/// of a prompt chunk, or the one of a decoded token.
class RouteTrace {
 public:
  struct Request {
    std::uint32_t step = 0;  // never goes back
    int layer = 0;
    cache::Phase phase = cache::Phase::decode;
    std::size_t first_row = 0;
    std::size_t rows = 0;
  };

  TraceHeader header;  // complete: what a file does not name is what its rows need

  std::span<const Request> requests() const { return requests_; }
  /// Experts of a row, best first; below header.experts.
  std::span<const std::uint16_t> ids(std::size_t row) const;
  /// Their weights, in the same order; empty if the trace has none.
  std::span<const float> weights(std::size_t row) const;

  /// Appends a request without rows.
  void begin_request(std::uint32_t step, int layer, cache::Phase phase);
  /// Appends a row to the last request. `weights` is empty, for all rows of a trace alike, or has the size of `ids`.
  void add_row(std::span<const std::uint16_t> ids, std::span<const float> weights);
  /// Makes the header as large as the rows need.
  void complete_header();

  /// What the cache was asked for.
  cache::RouteLog log() const;

 private:
  std::span<const std::size_t> row_range(std::size_t row) const { return std::span(row_begin_).subspan(row, 2); }

  std::vector<Request> requests_;
  std::vector<std::size_t> row_begin_ = {0};  // [rows + 1] into ids_
  std::vector<std::uint16_t> ids_;
  std::vector<float> weights_;  // like ids_, or empty
};

}  // namespace sluice::model
