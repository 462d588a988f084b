// What `sluice bench` shows: medians and spreads of repeated measurements, for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "model/bench.h"

namespace sluice::tools {

/// Measurements of one setting, all repetitions.
struct BenchSeries {
  std::string setting;  // "cache-slots=16"; empty if there is only one
  std::vector<model::BenchRun> runs;
};

enum class TableStyle : unsigned char { plain, markdown, csv };

/// One row for each setting, phase and cache state, in the order of the first repetition: the median speed, the spread
/// (slowest to fastest), and of the median repetition hit rate, bytes read per token, share of the time spent waiting,
/// the bound, what sets it, and which fractions of it and of the schedule bound were reached.
std::string bench_table(const std::vector<BenchSeries>& series, TableStyle style);

/// {"runs": [{"setting", "phase", "cache": "cold" or "warm", "repetition", ...statistics (docs/statistics.md)}]}, where
/// the counts of the cache are "cache_counts".
std::string bench_json(const std::vector<BenchSeries>& series);

}  // namespace sluice::tools
