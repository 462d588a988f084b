// Writes a routing trace while a model runs.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "model/routes/route_trace.h"

namespace sluice::model {

/// Collects records in memory and appends them to the file in large pieces, so that a file cut short by a crash is a
/// trace up to there. A failed write is reported once, on the log, and ends the trace, not the run. Used by one thread.
class TraceWriter {
 public:
  /// Creates or empties the file. Throws Error naming it. The header has layers, experts and top_k.
  TraceWriter(const std::filesystem::path& path, const TraceHeader& header);
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  /// One row of a request; best expert first.
  void add(const RouteTrace::Request& request, std::span<const std::uint16_t> ids, std::span<const float> weights);
  /// Writes what was collected.
  void flush();

 private:
  std::filesystem::path path_;
  int top_k_;
  int descriptor_ = -1;  // -1 after a failure
  std::string buffer_;
};

}  // namespace sluice::model
