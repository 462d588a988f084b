#include "bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/units.h"

namespace sluice::tools {
namespace {

using model::BenchRun;
using nlohmann::ordered_json;

std::string_view name_of(cache::Phase phase) { return phase == cache::Phase::prefill ? "prefill" : "decode"; }
std::string_view name_of(model::BenchCache state) { return state == model::BenchCache::cold ? "cold" : "warm"; }

double speed(const BenchRun& run) {
  return run.phase == cache::Phase::prefill ? run.statistics.prefill_speed() : run.statistics.decode_speed();
}

double seconds(const BenchRun& run) {
  const model::GenerateResult& result = run.statistics.generation;
  return run.phase == cache::Phase::prefill ? result.prefill_seconds : result.decode_seconds;
}

/// The repetitions of one measurement, slowest first.
using Repetitions = std::vector<const BenchRun*>;

std::vector<Repetitions> grouped(const BenchSeries& series) {
  std::vector<Repetitions> groups;
  for (const BenchRun& run : series.runs) {
    const auto same = [&](const Repetitions& group) {
      return group.front()->phase == run.phase && group.front()->cache == run.cache;
    };
    const auto found = std::find_if(groups.begin(), groups.end(), same);
    (found == groups.end() ? groups.emplace_back() : *found).push_back(&run);
  }
  for (Repetitions& group : groups) {
    std::sort(group.begin(), group.end(), [](const BenchRun* a, const BenchRun* b) { return speed(*a) < speed(*b); });
  }
  return groups;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : std::string("-");
}

/// Nobody asks for the bytes of a mapping; the kernel says what it fetched.
std::string read_per_token(const model::RunStatistics& s, const cache::LookupCounts& lookups, int tokens) {
  if (s.model.mapped && !s.device_bytes) return "-";
  return format_bytes((s.model.mapped ? *s.device_bytes : lookups.bytes_read) / static_cast<std::uint64_t>(tokens));
}

using Row = std::vector<std::string>;

Row row_of(const BenchSeries& series, const Repetitions& group) {
  const BenchRun& median = *group[group.size() / 2];
  const model::RunStatistics& s = median.statistics;
  const bool prefill = median.phase == cache::Phase::prefill;
  const cache::LookupCounts& lookups = prefill ? s.prefill_lookups : s.decode_lookups;
  const double stall = prefill ? s.prefill_stall_seconds : s.decode_stall_seconds;
  const int tokens = prefill ? s.generation.prompt_tokens : s.generation.decode_steps;
  Row row{series.setting,
          std::string(name_of(median.phase)),
          std::string(name_of(median.cache)),
          fmt::format("{:.2f}", speed(median)),
          fmt::format("{:.2f}-{:.2f}", speed(*group.front()), speed(*group.back())),
          percent(static_cast<double>(lookups.hits), static_cast<double>(lookups.lookups)),
          tokens > 0 ? read_per_token(s, lookups, tokens) : "-",
          s.model.mapped ? "-" : percent(stall, seconds(median))};
  const model::Bound bound = prefill ? model::Bound{} : s.bound().value_or(model::Bound{});
  row.push_back(bound.tok_per_s > 0 ? fmt::format("{:.2f} {}", bound.tok_per_s, bound.resource) : "-");
  row.push_back(percent(speed(median), bound.tok_per_s));
  row.push_back(!prefill && s.schedule_bound ? percent(speed(median), *s.schedule_bound) : "-");
  return row;
}

const Row kHeadings{"setting",  "phase",   "cache", "tok/s", "spread",     "hits",
                    "read/tok", "waiting", "bound", "of it", "of schedule"};

std::string plain_text(const std::vector<Row>& rows, bool markdown) {
  std::vector<std::size_t> widths(kHeadings.size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    if (markdown) text += "| ";
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths[i] == 0) continue;  // a column without content
      text += fmt::format("{:<{}}", row[i], widths[i]);
      text += markdown ? " | " : i + 1 < row.size() ? "  " : "";
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    text += '\n';
    if (markdown && &row == &rows.front()) {
      text += "|";
      for (const std::size_t width : widths) {
        if (width > 0) text += " --- |";
      }
      text += '\n';
    }
  }
  return text;
}

}  // namespace

std::string bench_table(const std::vector<BenchSeries>& series, TableStyle style) {
  std::vector<Row> rows{kHeadings};
  if (series.size() < 2) rows[0][0].clear();
  for (const BenchSeries& one : series) {
    for (const Repetitions& group : grouped(one)) rows.push_back(row_of(one, group));
  }
  if (style != TableStyle::csv) return plain_text(rows, style == TableStyle::markdown);
  rows[0] = kHeadings;
  std::string text;
  for (const Row& row : rows) text += fmt::format("{}\n", fmt::join(row, ","));
  return text;
}

std::string bench_json(const std::vector<BenchSeries>& series) {
  ordered_json runs = ordered_json::array();
  for (const BenchSeries& one : series) {
    std::map<std::pair<cache::Phase, model::BenchCache>, int> repetitions;
    for (const BenchRun& run : one.runs) {
      ordered_json object = {{"setting", one.setting},
                             {"phase", name_of(run.phase)},
                             {"cache", name_of(run.cache)},
                             {"repetition", repetitions[{run.phase, run.cache}]++}};
      ordered_json statistics = ordered_json::parse(model::statistics_json(run.statistics));
      statistics["cache_counts"] = std::move(statistics["cache"]);  // "cache" is the state here
      statistics.erase("cache");
      object.update(statistics);
      runs.push_back(std::move(object));
    }
  }
  return ordered_json{{"runs", std::move(runs)}}.dump(2) + "\n";
}

}  // namespace sluice::tools
