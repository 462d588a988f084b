// sluice bench: how fast a model evaluates prompts and decodes here, and how close that comes to the bounds.
#include "model/bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "bench_compare.h"
#include "bench_report.h"
#include "find_model.h"
#include "interrupt.h"
#include "load_model.h"
#include "output_file.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

constexpr int kDefaultRepetitions = 3;

struct BenchOptions {
  std::optional<std::string> model;
  model::BenchRequest request;
  int repetitions = kDefaultRepetitions;
  std::string sweep;            // NAME=VALUE,VALUE,...
  std::vector<std::string> ab;  // two lists of NAME=VALUE, or none
  bool ablation = false;
  std::optional<double> lookahead_recall;
  TableStyle style = TableStyle::plain;
  std::filesystem::path json;
  std::filesystem::path svg;
  FlagValues settings;
};

Comparison comparison(const BenchOptions& options) {
  if ((options.sweep.empty() ? 0 : 1) + (options.ab.empty() ? 0 : 1) + (options.ablation ? 1 : 0) > 1) {
    fail_usage("--sweep, --ab and --ablation: give one of them");
  }
  if (!options.sweep.empty()) return parse_sweep({options.sweep, "--sweep"}, options.settings);
  if (!options.ab.empty()) return parse_ab(options.ab[0], options.ab[1], options.settings);
  if (options.ablation) return parse_sweep({kAblation, "--ablation"}, options.settings);
  return {{{"", options.settings}}, true, ""};
}

/// Throws UsageError for what only a single run prints or writes.
void refuse_output_of_one_run(const FlagValues& settings) {
  if (settings.contains("stats")) {
    fail_usage("--stats: is of one run, and bench makes many; --json FILE writes the statistics of each");
  }
  if (settings.contains("stats-json")) {
    fail_usage("--stats-json: is of one run, and bench makes many; --json FILE writes the statistics of each");
  }
  if (settings.contains("route-trace")) {
    fail_usage("--route-trace: is of one run, and bench makes many; record with sluice run, measure with --routing");
  }
}

int bench(const BenchOptions& options, const Environment& environment) {
  if (options.request.prompt_tokens == 0 && options.request.decode_tokens == 0) {
    fail_usage("-p 0 -n 0: nothing is left to measure");
  }
  model::BenchRequest request = options.request;
  if (options.lookahead_recall) {
    if (request.routing == "model") {
      fail_usage("--lookahead-recall: is of guesses at the routes of --routing; the model's own its routers guess");
    }
    request.lookahead_recall = *options.lookahead_recall;
  }
  const Comparison compared = comparison(options);
  std::vector<Settings> settings;
  std::vector<BenchSeries> series;
  for (const BenchPoint& point : compared.points) {
    refuse_output_of_one_run(point.settings);
    settings.push_back(resolve_settings(point.settings, environment));
    series.push_back({point.name, {}});
  }
  std::optional<SweepAxis> axis;
  if (!options.svg.empty()) {
    axis = numeric_axis(compared);
    if (options.request.decode_tokens == 0) fail_usage("--svg: draws the speed of decoding, and -n 0 leaves that out");
  }
  const ModelChoice choice = find_model(options.model, environment, program_path());
  for (const std::filesystem::path& path : {options.json, options.svg}) {
    if (!path.empty()) check_writable(path);
  }
  if (choice.embedded) std::for_each(settings.begin(), settings.end(), use_embedded_slots);
  const bool with_ratios = series.size() > 1 && compared.same_tokens;
  const bool quiet = settings.front().quiet;
  if (!compared.same_tokens && !quiet) {
    log::warn("{} changes the text: tokens are not compared, and no ratios are shown", compared.swept);
  }
  const InterruptGuard interrupt;
  // Repetitions outside, settings inside: what changes on the machine meanwhile meets all of them.
  for (int repetition = 0; repetition < options.repetitions && !interrupt.requested(); ++repetition) {
    for (const std::size_t i : turns(series.size(), repetition)) {
      if (interrupt.requested()) break;
      const auto progress = [&](std::string_view what) {
        if (quiet) return;
        fmt::print(stderr, "{} of {}: {}{}{}\n", repetition + 1, options.repetitions, series[i].setting,
                   series[i].setting.empty() ? "" : ", ", what);
      };
      auto runs = model::bench(choice.directory, settings[i].runtime, settings[i].records, request, progress,
                               &interrupt.requested());
      if (with_ratios) check_same_tokens(series.front(), series[i].setting, runs);
      series[i].runs.insert(series[i].runs.end(), std::make_move_iterator(runs.begin()),
                            std::make_move_iterator(runs.end()));
    }
  }
  fmt::print("{}", bench_table(series, options.style, with_ratios));
  // Empty lines end a table of Markdown; a table of CSV has nothing but rows.
  if (const std::string text = lookahead_text(series); !text.empty() && options.style != TableStyle::csv) {
    fmt::print("\n{}", text);
  }
  write_file(options.json, bench_json(series, with_ratios));
  if (axis) write_file(options.svg, bench_svg(series, *axis));
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
  flags.push_back({"--lookahead-recall", "R", "Measurement",
                   "share of the experts of such routes that the lookahead guesses (default: 0.8)",
                   [options](const Given& given) { options->lookahead_recall = parse_share(given); }});
  flags.push_back({"--seed", "N", "Measurement",
                   "of prompt tokens, generated routes and guesses at routes (default: 1)",
                   [options](const Given& given) {
                     options->request.seed = static_cast<std::uint64_t>(parse_int(given, 0, kMost));
                   }});
  flags.push_back({"--sweep", "NAME=LIST", "Measurement", "measure with each of these values of a setting",
                   [options](const Given& given) { options->sweep = given.text; }});
  flags.push_back({.names = "--ab",
                   .value = "SETTINGS SETTINGS",
                   .group = "Measurement",
                   .help = "compare two settings, each like \"cache-slots=16 io=pread\"; \"\": as given otherwise",
                   .apply = [options](const Given& given) { options->ab.emplace_back(given.text); },
                   .values = 2});
  flags.push_back({"--ablation", "", "Measurement", fmt::format("sweep {}", kAblation),
                   [options](const Given& given) { options->ablation = parse_switch(given); }});
  flags.push_back({"--format", "plain|markdown|csv", "Output", "how the table is written (default: plain)",
                   [options](const Given& given) { options->style = parse_style(given); }});
  flags.push_back({"--json", "FILE", "Output",
                   "write every measurement with its statistics as JSON, instead of --stats-json",
                   [options](const Given& given) { options->json = parse_path(given); }});
  flags.push_back({"--svg", "FILE", "Output", "draw speed, bounds and hit rate against the values of a numeric sweep",
                   [options](const Given& given) { options->svg = parse_path(given); }});
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return bench(*options, environment); };
}

}  // namespace sluice::tools
