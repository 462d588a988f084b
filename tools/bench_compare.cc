#include "bench_compare.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"

namespace sluice::tools {
namespace {

/// The row of a setting that has a flag. Throws UsageError naming `source` and the nearest one.
const SettingRow& find_setting(std::string_view name, std::string_view source) {
  std::vector<std::string_view> known;
  for (const SettingRow& row : setting_table()) {
    if (!row.has_flag) continue;
    if (row.name == name) return row;
    known.push_back(row.name);
  }
  fail_usage("{}: no setting is named '{}'; did you mean {}? See sluice bench --help", source, printable(name),
             nearest(name, known));
}

/// NAME=VALUE, as it stands in `text`.
struct Assignment {
  const SettingRow& row;
  std::string_view value;
};

Assignment parse_assignment(std::string_view text, std::string_view source, std::string_view expected) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    fail_usage("{}: '{}' has no value; expected {}", source, printable(text), expected);
  }
  return {find_setting(text.substr(0, equals), source), text.substr(equals + 1)};
}

BenchPoint parse_settings(std::string_view letter, std::string_view text, const FlagValues& given) {
  BenchPoint point{std::string(letter), given};
  constexpr std::string_view kBetween = " ,";
  for (std::size_t begin = text.find_first_not_of(kBetween); begin != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    const std::string_view item = text.substr(begin, end - begin);
    const Assignment assignment = parse_assignment(item, "--ab", "NAME=VALUE, for example \"cache-slots=16 io=pread\"");
    point.settings[assignment.row.name] = assignment.value;
    point.name += fmt::format(" {}", item);
    begin = text.find_first_not_of(kBetween, end);
  }
  if (point.name.size() == letter.size()) point.name += " as given";
  return point;
}

}  // namespace

Comparison parse_sweep(const Given& text, const FlagValues& given) {
  const Assignment assignment =
      parse_assignment(text.text, text.source, "NAME=VALUE,VALUE,..., for example cache-slots=8,16,32");
  Comparison comparison{{}, !assignment.row.changes_text, assignment.row.name};
  for (const Given& value : parse_list({assignment.value, text.source})) {
    BenchPoint point{fmt::format("{}={}", assignment.row.name, value.text), given};
    point.settings[assignment.row.name] = value.text;
    comparison.points.push_back(std::move(point));
  }
  return comparison;
}

Comparison parse_ab(std::string_view a, std::string_view b, const FlagValues& given) {
  return {{parse_settings("A:", a, given), parse_settings("B:", b, given)}, true, ""};
}

SweepAxis numeric_axis(const Comparison& comparison) {
  if (comparison.swept.empty())
    fail_usage("--svg: draws a sweep; give one too, for example --sweep cache-slots=8,16,32");
  const bool size = find_setting(comparison.swept, "--svg").value == "SIZE";
  SweepAxis axis{size ? fmt::format("{}, GiB", comparison.swept) : comparison.swept, {}};
  for (const BenchPoint& point : comparison.points) {
    const std::string& value = point.settings.at(comparison.swept);
    const std::optional<double> number =
        size ? static_cast<double>(parse_size(value, "--sweep")) / static_cast<double>(kGiB) : whole<double>(value);
    if (!number) fail_usage("--svg: {} is no number; only a sweep over numbers can be drawn", point.name);
    axis.values.push_back(*number);
  }
  return axis;
}

std::vector<std::size_t> turns(std::size_t points, int repetition) {
  std::vector<std::size_t> order(points);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (repetition % 2 != 0) std::reverse(order.begin(), order.end());
  return order;
}

void check_same_tokens(const BenchSeries& reference, std::string_view setting, std::span<const model::BenchRun> runs) {
  for (const model::BenchRun& run : runs) {
    const auto before = std::find_if(reference.runs.begin(), reference.runs.end(),
                                     [&](const model::BenchRun& other) { return same_measurement(other, run); });
    if (before == reference.runs.end()) continue;
    const std::size_t both = std::min(before->tokens.size(), run.tokens.size());
    const auto [was, is] = std::mismatch(
        before->tokens.begin(), before->tokens.begin() + static_cast<std::ptrdiff_t>(both), run.tokens.begin());
    if (is == run.tokens.begin() + static_cast<std::ptrdiff_t>(both)) continue;
    fail(
        "bench: the settings '{}' and '{}' give different tokens ({}: token {} is {}, not {}); the speeds of different "
        "texts are not compared",
        reference.setting, setting, measurement_name(run), is - run.tokens.begin() + 1, *is, *was);
  }
}

}  // namespace sluice::tools
