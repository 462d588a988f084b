// What `sluice bench` compares: several settings that take turns in one process and have to give the same tokens.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench_report.h"
#include "settings.h"

namespace sluice::tools {

/// One of the settings: its name in the table, and all flags with it.
struct BenchPoint {
  std::string name;
  FlagValues settings;
};

struct Comparison {
  std::vector<BenchPoint> points;  // one: nothing is compared
  bool same_tokens = true;         // false: a sweep of a setting that changes the text, so that speeds are not compared
  std::string swept;               // the setting of --sweep; empty without
};

/// The paths of the experts, from the baseline on: what --ablation sweeps.
inline constexpr std::string_view kAblation = "moe-path=per-expert,stacked-split,stacked,fused";

/// `text` is NAME=VALUE,VALUE,...: a point for each value. Throws UsageError naming `source`.
Comparison parse_sweep(const Given& text, const FlagValues& given);

/// Two points, A and B. Each text is a list of NAME=VALUE with spaces or commas between them; an empty one is the
/// settings as given otherwise. Throws UsageError naming --ab.
Comparison parse_ab(std::string_view a, std::string_view b, const FlagValues& given);

/// The values of a sweep as numbers, to draw; sizes in GiB. Throws UsageError naming --svg if they are none.
SweepAxis numeric_axis(const Comparison& comparison);

/// The points in the order in which a repetition measures them: forwards in even ones, backwards in odd ones, so that
/// what changes steadily on the machine meanwhile meets all of them alike (A B, B A, A B ...).
std::vector<std::size_t> turns(std::size_t points, int repetition);

/// Throws Error naming both settings, the measurement and the first token that differs if `runs`, measured with
/// `setting`, decoded other tokens than the first repetition of `reference`. A run that was cancelled counts as far as
/// it came.
void check_same_tokens(const BenchSeries& reference, std::string_view setting, std::span<const model::BenchRun> runs);

}  // namespace sluice::tools
