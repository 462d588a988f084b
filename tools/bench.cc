// sluice bench: how fast a model evaluates prompts and decodes here, and how close that comes to the bounds.
#include "model/bench.h"

#include <fmt/core.h>

#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "bench_report.h"
#include "find_model.h"
#include "interrupt.h"
#include "output_file.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

constexpr int kDefaultRepetitions = 3;

struct BenchOptions {
  std::optional<std::string> model;
  model::BenchRequest request;
  int repetitions = kDefaultRepetitions;
  std::string sweep;  // NAME=VALUE,VALUE,...
  TableStyle style = TableStyle::plain;
  std::filesystem::path json;
  FlagValues settings;
};

/// One point of a sweep: its name in the table, and the settings with it.
struct Point {
  std::string name;
  FlagValues settings;
};

std::vector<Point> points(const BenchOptions& options) {
  if (options.sweep.empty()) return {{"", options.settings}};
  const auto equals = options.sweep.find('=');
  if (equals == std::string::npos) {
    fail_usage("--sweep: '{}' has no values; expected NAME=VALUE,VALUE,..., for example cache-slots=8,16,32",
               options.sweep);
  }
  const std::string name = options.sweep.substr(0, equals);
  std::vector<Point> result;
  for (std::size_t begin = equals + 1; begin <= options.sweep.size();) {
    const std::size_t comma = std::min(options.sweep.find(',', begin), options.sweep.size());
    const std::string value = options.sweep.substr(begin, comma - begin);
    Point point{name + "=" + value, options.settings};
    point.settings[name] = value;
    result.push_back(std::move(point));
    begin = comma + 1;
  }
  return result;
}

int bench(const BenchOptions& options, const Environment& environment) {
  if (options.request.prompt_tokens == 0 && options.request.decode_tokens == 0) {
    fail_usage("-p 0 -n 0: nothing is left to measure");
  }
  std::vector<Settings> settings;
  std::vector<BenchSeries> series;
  for (const Point& point : points(options)) {
    settings.push_back(resolve_settings(point.settings, environment));
    series.push_back({point.name, {}});
  }
  const ModelChoice choice = find_model(options.model, environment, program_path());
  if (!options.json.empty()) check_writable(options.json);
  const bool quiet = settings.front().quiet;
  const InterruptGuard interrupt;
  // Repetitions outside, settings inside: what changes on the machine meanwhile meets all of them.
  for (int repetition = 0; repetition < options.repetitions && !interrupt.requested(); ++repetition) {
    for (std::size_t i = 0; i < series.size() && !interrupt.requested(); ++i) {
      const auto progress = [&](std::string_view what) {
        if (quiet) return;
        fmt::print(stderr, "{} of {}: {}{}{}\n", repetition + 1, options.repetitions, series[i].setting,
                   series[i].setting.empty() ? "" : ", ", what);
      };
      auto runs = model::bench(choice.directory, settings[i].runtime, settings[i].records, options.request, progress,
                               &interrupt.requested());
      series[i].runs.insert(series[i].runs.end(), std::make_move_iterator(runs.begin()),
                            std::make_move_iterator(runs.end()));
    }
  }
  fmt::print("{}", bench_table(series, options.style));
  if (!options.json.empty()) {
    OutputFile file(options.json);
    file.write(bench_json(series));
    file.commit();
  }
  return interrupt.requested() ? interrupt.exit_code() : 0;
}

TableStyle parse_style(const Given& given) {
  constexpr std::array<std::string_view, 3> kStyles{"plain", "markdown", "csv"};
  return static_cast<TableStyle>(parse_choice(given, kStyles));
}

}  // namespace

Action declare_bench(std::vector<Flag>& flags) {
  const auto options = std::make_shared<BenchOptions>();
  constexpr int kMost = std::numeric_limits<int>::max();
  add_model(flags, options->model);
  flags.push_back({"-p,--prompt-tokens", "N", "Measurement", "prompt tokens to evaluate; 0: no prefill (default: 512)",
                   [options](const Given& given) { options->request.prompt_tokens = parse_int(given, 0, kMost); }});
  flags.push_back({"-n,--decode-tokens", "N", "Measurement", "tokens to decode; 0: no decoding (default: 128)",
                   [options](const Given& given) { options->request.decode_tokens = parse_int(given, 0, kMost); }});
  flags.push_back({"-r,--repetitions", "N", "Measurement", "how often; medians are shown (default: 3)",
                   [options](const Given& given) { options->repetitions = parse_int(given, 1, kMost); }});
  flags.push_back({"--warm-up", "N", "Measurement", "decode steps before a warm measurement (default: 32)",
                   [options](const Given& given) { options->request.warm_up = parse_int(given, 0, kMost); }});
  flags.push_back({"--routing", "SOURCE", "Measurement",
                   "model, trace:FILE or gen:NAME: whose routes are taken (default: model)",
                   [options](const Given& given) { options->request.routing = given.text; }});
  flags.push_back({"--seed", "N", "Measurement", "of prompt tokens and generated routes (default: 1)",
                   [options](const Given& given) {
                     options->request.seed = static_cast<std::uint64_t>(parse_int(given, 0, kMost));
                   }});
  flags.push_back({"--sweep", "NAME=LIST", "Measurement", "measure with each of these values of a setting",
                   [options](const Given& given) { options->sweep = given.text; }});
  flags.push_back({"--format", "plain|markdown|csv", "Output", "how the table is written (default: plain)",
                   [options](const Given& given) { options->style = parse_style(given); }});
  flags.push_back({"--json", "FILE", "Output", "write every measurement with its statistics as JSON",
                   [options](const Given& given) { options->json = parse_path(given); }});
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return bench(*options, environment); };
}

}  // namespace sluice::tools
