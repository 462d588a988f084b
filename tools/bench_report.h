// What `sluice bench` shows: medians and spreads of repeated measurements, for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "model/bench.h"

namespace sluice::tools {

/// Measurements of one setting, all repetitions in their order.
struct BenchSeries {
  std::string setting;  // "cache-slots=16"; empty if there is only one
  std::vector<model::BenchRun> runs;
};

enum class TableStyle : unsigned char { plain, markdown, csv };

/// Whether two runs are repetitions of one measurement: the same phase with the same cache state.
bool same_measurement(const model::BenchRun& a, const model::BenchRun& b);

/// "decode, warm"
std::string measurement_name(const model::BenchRun& run);

/// One row for each setting, phase and cache state, in the order of the first repetition: the median speed, the spread
/// (slowest to fastest), and of the median repetition (of an even number the faster of the two in the middle) hit rate,
/// bytes read per token, share of the time spent waiting, the bound, what sets it, and which fractions of it and of the
/// schedule bound were reached. With `compared` also how much faster than the setting before: the ratio of the medians,
/// and of the ratios within each repetition the median with the lowest and highest.
std::string bench_table(const std::vector<BenchSeries>& series, TableStyle style, bool compared);

/// One line about the guesses at routes from elsewhere, over all measurements: how good they should be and were. Empty
/// if nothing was guessed.
std::string lookahead_text(const std::vector<BenchSeries>& series);

/// {"runs": [{"setting", "phase", "cache": "cold" or "warm", "repetition", "lookahead": null or {"configured_recall",
/// "achieved_recall"}, ...statistics (docs/statistics.md)}]}, where the counts of the cache are "cache_counts"; with
/// `compared` also "ratios": [{"setting", "before", "phase", "cache", "of_medians", "of_repetitions": [...]}].
std::string bench_json(const std::vector<BenchSeries>& series, bool compared);

/// What was swept: its name with the unit, and the value of each series.
struct SweepAxis {
  std::string label;
  std::vector<double> values;
};

/// Two charts in one SVG document, decode with a warm cache: median speed with the schedule bound and the bound of disk
/// and memory, and below it the hit rate. Series that were not measured are left out.
std::string bench_svg(const std::vector<BenchSeries>& series, const SweepAxis& axis);

}  // namespace sluice::tools
