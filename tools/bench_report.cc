#include "bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "base/units.h"
#include "plot.h"

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

/// The repetitions of one measurement, in their order. Never empty.
using Repetitions = std::vector<const BenchRun*>;

Repetitions repetitions(const BenchSeries& series, const BenchRun& of) {
  Repetitions found;
  for (const BenchRun& run : series.runs) {
    if (same_measurement(run, of)) found.push_back(&run);
  }
  return found;
}

std::vector<Repetitions> grouped(const BenchSeries& series) {
  std::vector<Repetitions> groups;
  for (const BenchRun& run : series.runs) {
    const auto same = [&](const Repetitions& group) { return same_measurement(*group.front(), run); };
    if (std::none_of(groups.begin(), groups.end(), same)) groups.push_back(repetitions(series, run));
  }
  return groups;
}

/// Sorts `values`, which are not empty.
double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double median_speed(const Repetitions& group) {
  std::vector<double> speeds;
  for (const BenchRun* run : group) speeds.push_back(speed(*run));
  return median(speeds);
}

Repetitions slowest_first(Repetitions group) {
  std::sort(group.begin(), group.end(), [](const BenchRun* a, const BenchRun* b) { return speed(*a) < speed(*b); });
  return group;
}

/// How much faster a measurement is than the same one with another setting.
struct Ratio {
  double of_medians = 0;
  std::vector<double> of_repetitions;
};

/// None if nothing was measured there.
std::optional<Ratio> ratio(const Repetitions& group, const BenchSeries& before) {
  const Repetitions base = repetitions(before, *group.front());
  if (base.empty() || median_speed(base) <= 0) return std::nullopt;
  Ratio result{median_speed(group) / median_speed(base), {}};
  for (std::size_t i = 0; i < std::min(group.size(), base.size()); ++i) {
    if (speed(*base[i]) > 0) result.of_repetitions.push_back(speed(*group[i]) / speed(*base[i]));
  }
  return result;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : std::string("-");
}

/// Nobody asks for the bytes of a mapping; the kernel says what it fetched.
std::string read_per_token(const model::RunStatistics& s, std::uint64_t requested, int tokens) {
  if (tokens == 0 || (s.model.mapped && !s.device_bytes)) return "-";
  return format_bytes((s.model.mapped ? *s.device_bytes : requested) / static_cast<std::uint64_t>(tokens));
}

using Row = std::vector<std::string>;
constexpr std::size_t kRatio = 5;  // its column; that of the repetitions follows

Row row_of(const BenchSeries& series, const Repetitions& group, const BenchSeries* before) {
  const Repetitions sorted = slowest_first(group);
  const BenchRun& middle = *sorted[sorted.size() / 2];
  const model::RunStatistics& s = middle.statistics;
  const bool prefill = middle.phase == cache::Phase::prefill;
  const cache::LookupCounts& lookups = prefill ? s.prefill_lookups : s.decode_lookups;
  const double stall = prefill ? s.prefill_stall_seconds : s.decode_stall_seconds;
  const int tokens = prefill ? s.generation.prompt_tokens : s.generation.decode_steps;
  Row row{series.setting,
          std::string(name_of(middle.phase)),
          std::string(name_of(middle.cache)),
          fmt::format("{:.2f}", median_speed(group)),
          fmt::format("{:.2f}-{:.2f}", speed(*sorted.front()), speed(*sorted.back())),
          "-",
          "-",
          percent(static_cast<double>(lookups.hits), static_cast<double>(lookups.lookups)),
          read_per_token(s, s.bytes_read(middle.phase), tokens),
          s.model.mapped ? "-" : percent(stall, seconds(middle))};
  if (std::optional<Ratio> faster = before != nullptr ? ratio(group, *before) : std::nullopt; faster) {
    row[kRatio] = fmt::format("{:.3f}", faster->of_medians);
    if (std::vector<double>& each = faster->of_repetitions; !each.empty()) {
      const double middle_ratio = median(each);
      row[kRatio + 1] = fmt::format("{:.3f} ({:.3f}-{:.3f})", middle_ratio, each.front(), each.back());
    }
  }
  const model::Bound bound = (prefill ? s.prefill_bound() : s.bound()).value_or(model::Bound{});
  row.push_back(bound.tok_per_s > 0 ? fmt::format("{:.2f} {}", bound.tok_per_s, bound.resource) : "-");
  row.push_back(percent(speed(middle), bound.tok_per_s));
  row.push_back(!prefill && s.schedule_bound ? percent(speed(middle), *s.schedule_bound) : "-");
  return row;
}

const Row kHeadings{"setting", "phase",    "cache",   "tok/s", "spread", "ratio",      "of repetitions",
                    "hits",    "read/tok", "waiting", "bound", "of it",  "of schedule"};

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

bool same_measurement(const BenchRun& a, const BenchRun& b) { return a.phase == b.phase && a.cache == b.cache; }

std::string measurement_name(const BenchRun& run) {
  return fmt::format("{}, {}", name_of(run.phase), name_of(run.cache));
}

std::string bench_table(const std::vector<BenchSeries>& series, TableStyle style, bool compared) {
  std::vector<Row> rows{kHeadings};
  const BenchSeries* before = nullptr;
  for (const BenchSeries& one : series) {
    for (const Repetitions& group : grouped(one)) rows.push_back(row_of(one, group, before));
    if (compared) before = &one;
  }
  if (style == TableStyle::csv) {
    std::string text;
    for (const Row& row : rows) text += fmt::format("{}\n", fmt::join(row, ","));
    return text;
  }
  for (Row& row : rows) {
    if (series.size() < 2) row[0].clear();
    if (!compared) row[kRatio].clear(), row[kRatio + 1].clear();
  }
  return plain_text(rows, style == TableStyle::markdown);
}

std::string lookahead_text(const std::vector<BenchSeries>& series) {
  model::BenchLookahead all;
  for (const BenchSeries& one : series) {
    for (const BenchRun& run : one.runs) {
      if (!run.lookahead) continue;
      all.configured_recall = run.lookahead->configured_recall;
      all.counts.chosen += run.lookahead->counts.chosen;
      all.counts.found += run.lookahead->counts.found;
    }
  }
  if (all.counts.chosen == 0) return "";
  return fmt::format("lookahead: guesses found {:.1f} % of the experts, {:g} % were asked for (--lookahead-recall)\n",
                     100 * all.achieved_recall(), 100 * all.configured_recall);
}

std::string bench_json(const std::vector<BenchSeries>& series, bool compared) {
  ordered_json runs = ordered_json::array();
  for (const BenchSeries& one : series) {
    std::map<std::pair<cache::Phase, model::BenchCache>, int> count;
    for (const BenchRun& run : one.runs) {
      ordered_json object = {{"setting", one.setting},
                             {"phase", name_of(run.phase)},
                             {"cache", name_of(run.cache)},
                             {"repetition", count[{run.phase, run.cache}]++},
                             {"lookahead", nullptr}};
      if (run.lookahead) {
        object["lookahead"] = {{"configured_recall", run.lookahead->configured_recall},
                               {"achieved_recall", run.lookahead->achieved_recall()}};
      }
      ordered_json statistics = ordered_json::parse(model::statistics_json(run.statistics));
      statistics["cache_counts"] = std::move(statistics["cache"]);  // "cache" is the state here
      statistics.erase("cache");
      object.update(statistics);
      runs.push_back(std::move(object));
    }
  }
  ordered_json json{{"runs", std::move(runs)}};
  if (!compared) return json.dump(2) + "\n";
  json["ratios"] = ordered_json::array();
  for (std::size_t i = 1; i < series.size(); ++i) {
    for (const Repetitions& group : grouped(series[i])) {
      const std::optional<Ratio> faster = ratio(group, series[i - 1]);
      if (!faster) continue;
      json["ratios"].push_back({{"setting", series[i].setting},
                                {"before", series[i - 1].setting},
                                {"phase", name_of(group.front()->phase)},
                                {"cache", name_of(group.front()->cache)},
                                {"of_medians", faster->of_medians},
                                {"of_repetitions", faster->of_repetitions}});
    }
  }
  return json.dump(2) + "\n";
}

std::string bench_svg(const std::vector<BenchSeries>& series, const SweepAxis& axis) {
  std::vector<std::size_t> order(series.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return axis.values[a] < axis.values[b]; });
  PlotLine measured{"measured", {}}, schedule{"schedule bound", {}}, bound{"", {}}, hits{"hits", {}};
  std::string model;
  std::set<std::string_view> resources;
  for (const std::size_t i : order) {
    const BenchRun warm_decode{cache::Phase::decode, model::BenchCache::warm, {}, {}, {}};
    const Repetitions group = repetitions(series[i], warm_decode);
    if (group.empty()) continue;
    const model::RunStatistics& s = slowest_first(group)[group.size() / 2]->statistics;
    const double x = axis.values[i];
    model = s.model.directory.filename().string();
    measured.points.emplace_back(x, median_speed(group));
    if (s.schedule_bound) schedule.points.emplace_back(x, *s.schedule_bound);
    if (const auto tighter = s.bound()) {
      bound.points.emplace_back(x, tighter->tok_per_s);
      resources.insert(tighter->resource);
    }
    if (const double lookups = static_cast<double>(s.decode_lookups.lookups); lookups > 0) {
      hits.points.emplace_back(x, 100 * static_cast<double>(s.decode_lookups.hits) / lookups);
    }
  }
  bound.name = fmt::format("{} bound", fmt::join(resources, "/"));
  Plot speeds{.title = fmt::format("{}: decode, warm, against {}", model, axis.label),
              .x_label = axis.label,
              .y_label = "tokens per second",
              .y_max = 1,
              .lines = {std::move(measured), std::move(schedule), std::move(bound)}};
  for (const PlotLine& line : speeds.lines) {
    for (const auto& [x, y] : line.points) speeds.y_max = std::max(speeds.y_max, 1.05 * y);
  }
  Plot rates{.title = "experts found in memory",
             .x_label = axis.label,
             .y_label = "hits, %",
             .y_max = 100,
             .lines = {std::move(hits)}};
  return plot_svg({std::move(speeds), std::move(rates)});
}

}  // namespace sluice::tools
