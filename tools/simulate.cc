// sluice simulate: replays recorded or generated routes through caches of any size.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "cache/eviction_policy.h"
#include "cache/regret.h"
#include "cache/schedule_bound.h"
#include "find_model.h"
#include "model/plan.h"
#include "model/routes/parse_trace.h"
#include "model/routes/route_generator.h"
#include "output_file.h"
#include "simulate_report.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

constexpr std::string_view kGenerated = "gen:";
constexpr std::string_view kBelady = "belady";

// Generated tokens: hit rates are stationary after 32, and 512 of the widest model take seconds.
constexpr int kDefaultTokens = 512;
constexpr int kMaxTokens = 1'000'000;

struct SimulateOptions {
  std::string source;
  std::vector<int> slots;
  std::vector<std::string> policies;
  int warm_up = 0;
  std::optional<int> tokens, experts_per_token;  // of generated routes
  std::optional<std::uint64_t> seed;             // likewise
  std::optional<std::uint64_t> disk_bandwidth, memory_bandwidth, expert_bytes, dense_bytes;
  std::optional<std::string> model;
  double recall = 0;
  std::filesystem::path json, svg;
};

/// Routes and what is known about the model they come from.
struct Routes {
  model::TraceHeader header;
  cache::RouteLog log;
};

Routes generate_routes(const SimulateOptions& options) {
  const model::RoutingProfile& profile =
      model::routing_profile(std::string_view(options.source).substr(kGenerated.size()), options.source);
  const int top_k = options.experts_per_token.value_or(profile.top_k);
  if (top_k > profile.experts) fail_usage("--experts-per-token: {} has {} experts", profile.name, profile.experts);
  model::RouteGenerator generator(profile, profile.layers, profile.experts, top_k, options.seed.value_or(1));
  model::TraceHeader header{.model = options.source,
                            .layers = profile.layers,
                            .experts = profile.experts,
                            .top_k = top_k,
                            .expert_bytes = 0,
                            .dense_bytes = 0};
  return {std::move(header), generate_log(generator, options.tokens.value_or(kDefaultTokens))};
}

Routes load_routes(const SimulateOptions& options) {
  if (options.source.starts_with(kGenerated)) return generate_routes(options);
  const auto refuse = [&](bool given, const char* flag) {
    if (given) fail_usage("{}: only for generated routes, gen:NAME; {} has what it has", flag, options.source);
  };
  refuse(options.tokens.has_value(), "--tokens");
  refuse(options.seed.has_value(), "--seed");
  refuse(options.experts_per_token.has_value(), "--experts-per-token");
  const model::RouteTrace trace = model::read_trace(options.source);
  return {trace.header, trace.log()};
}

/// The first request that counts: all do without a warm-up, else what follows that many decode steps.
std::size_t first_counted(const cache::RouteLog& log, int warm_up) {
  if (warm_up == 0) return 0;
  int steps = 0;
  std::optional<std::uint64_t> last;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const cache::RouteLog::Request request = log[i];
    if (request.phase == cache::Phase::prefill || request.step == last) continue;
    if (steps++ == warm_up) return i;
    last = request.step;
  }
  fail_usage("--warm-up: {} of {} decode steps leave none to count", warm_up, steps);
}

void count_steps(const cache::RouteLog& log, SimulationReport& report) {
  std::optional<std::uint64_t> last;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (log[i].step == last) continue;
    last = log[i].step;
    ++(log[i].phase == cache::Phase::prefill ? report.prefill_steps : report.decode_steps);
  }
}

/// From a token's working set to all experts.
std::vector<int> default_slots(const model::TraceHeader& header) {
  std::vector<int> slots{header.top_k};
  for (const int sixteenths : {1, 2, 3, 4, 6, 8, 12, 16}) slots.push_back(header.experts * sixteenths / 16);
  std::erase_if(slots, [&](int count) { return count < header.top_k; });
  return slots;
}

std::vector<std::string> known_policies() {
  std::vector<std::string> names;
  for (const cache::PolicyEntry& policy : cache::eviction_policies()) names.emplace_back(policy.name);
  names.emplace_back(kBelady);
  return names;
}

/// Bytes from the checkpoint, where the flags do not say. Returns them layer by layer if it has as many layers as the
/// routes.
std::optional<cache::ScheduleModel> add_sizes_of_model(const SimulateOptions& options, const Environment& environment,
                                                       model::TraceHeader& header) {
  const model::ModelPlan plan(find_model(options.model, environment, program_path()).directory, model::all_resident());
  if (plan.experts.empty()) fail("--model: {} has no routed experts", *options.model);
  header.expert_bytes = plan.expert_bytes() / (plan.experts.size() * static_cast<std::uint64_t>(plan.expert_count()));
  header.dense_bytes = plan.token_dense_bytes();
  if (static_cast<int>(plan.experts.size()) != header.layers) return std::nullopt;
  return model::schedule_model(plan);
}

/// What speed can be predicted from, if bandwidths are given. `exact` is layer by layer as in the checkpoint, if there
/// is one.
std::optional<PredictionInputs> prediction_inputs(const SimulateOptions& options, const model::TraceHeader& header,
                                                  std::optional<cache::ScheduleModel> exact) {
  if (!options.disk_bandwidth && !options.memory_bandwidth) return std::nullopt;
  if (!options.disk_bandwidth || !options.memory_bandwidth) {
    fail_usage("--disk-bandwidth and --memory-bandwidth: speed follows from both; give the other one too");
  }
  PredictionInputs inputs{.disk_bandwidth = *options.disk_bandwidth,
                          .memory_bandwidth = *options.memory_bandwidth,
                          .expert_bytes = options.expert_bytes.value_or(header.expert_bytes),
                          .dense_bytes = options.dense_bytes.value_or(header.dense_bytes),
                          .lookahead_recall = options.recall,
                          .exact = exact && !options.expert_bytes && !options.dense_bytes,
                          .schedule = {}};
  if (inputs.expert_bytes == 0 || inputs.dense_bytes == 0) {
    fail_usage(
        "--disk-bandwidth: speed follows from the sizes of the model too, and these routes do not name them; "
        "give --expert-bytes and --dense-bytes, or -m");
  }
  inputs.schedule = inputs.exact ? *std::move(exact)
                                 : cache::even_schedule(header.layers, inputs.dense_bytes, 0, inputs.expert_bytes,
                                                        inputs.expert_bytes);
  return inputs;
}

SimulatedCache simulate_one(const cache::RouteLog& log, const std::string& policy, int slots, std::size_t first,
                            const std::optional<PredictionInputs>& inputs) {
  SimulatedCache result{.policy = policy,
                        .slots = slots,
                        .simulation = policy == kBelady
                                          ? cache::simulate_belady(log, slots, first)
                                          : cache::simulate(log, slots, cache::eviction_policy(policy), first),
                        .tok_per_s = {}};
  if (!inputs) return result;
  const cache::ScheduleRates rates{.disk = static_cast<double>(inputs->disk_bandwidth),
                                   .memory = static_cast<double>(inputs->memory_bandwidth),
                                   .lookahead_recall = inputs->lookahead_recall};
  const auto seconds = cache::schedule_seconds(inputs->schedule, rates, log, result.simulation.misses, first);
  if (seconds) result.tok_per_s = 1 / *seconds;
  return result;
}

int simulate(const SimulateOptions& options, const Environment& environment) {
  for (const std::filesystem::path& path : {options.json, options.svg}) {
    if (!path.empty()) check_writable(path);
  }
  Routes routes = load_routes(options);
  std::optional<cache::ScheduleModel> exact;
  if (options.model) exact = add_sizes_of_model(options, environment, routes.header);
  SimulationReport report;
  report.source = options.source;
  report.header = routes.header;
  report.warm_up = options.warm_up;
  count_steps(routes.log, report);
  report.prediction = prediction_inputs(options, routes.header, std::move(exact));
  report.policies = options.policies.empty() ? known_policies() : options.policies;
  report.slots = options.slots.empty() ? default_slots(routes.header) : options.slots;
  for (int& slots : report.slots) slots = std::min(slots, routes.header.experts);
  std::sort(report.slots.begin(), report.slots.end());
  report.slots.erase(std::unique(report.slots.begin(), report.slots.end()), report.slots.end());

  const std::size_t first = first_counted(routes.log, options.warm_up);
  for (const int slots : report.slots) {
    for (const std::string& policy : report.policies) {
      report.caches.push_back(simulate_one(routes.log, policy, slots, first, report.prediction));
    }
  }
  fmt::print("{}", simulation_text(report));
  write_file(options.json, simulation_json(report));
  write_file(options.svg, simulation_svg(report));
  return 0;
}

/// "3.5GB", "3.5GB/s".
std::uint64_t parse_bandwidth(const Given& given) {
  std::string_view text = given.text;
  if (text.ends_with("/s")) text.remove_suffix(2);
  const std::uint64_t bytes = parse_size(text, given.source);
  if (bytes == 0) fail_usage("{}: '{}' is no bandwidth; write bytes per second, for example 3.5GB", given.source, text);
  return bytes;
}

std::uint64_t parse_bytes(const Given& given) {
  const std::uint64_t bytes = parse_size(given.text, given.source);
  if (bytes == 0) fail_usage("{}: expects more than {} bytes", given.source, bytes);
  return bytes;
}

}  // namespace

Action declare_simulate(std::vector<Flag>& flags) {
  const auto options = std::make_shared<SimulateOptions>();
  flags.push_back({"TRACE", "", "Input", "a file of routes, or gen:NAME for generated ones",
                   [options](const Given& given) { options->source = given.text; }, true});
  flags.push_back({"--tokens", "N", "Input", fmt::format("tokens of gen:NAME (default: {})", kDefaultTokens),
                   [options](const Given& given) { options->tokens = parse_int(given, 1, kMaxTokens); }});
  flags.push_back({"-s,--seed", "N", "Input", "seed of gen:NAME (default: 1)",
                   [options](const Given& given) { options->seed = parse_seed(given); }});
  flags.push_back({"--experts-per-token", "K", "Input", "experts per token of gen:NAME (default: as it was fitted)",
                   [options](const Given& given) {
                     options->experts_per_token = parse_int(given, 1, std::numeric_limits<int>::max());
                   }});

  flags.push_back({"--slots", "LIST", "Caches", "slots per layer, separated by commas (default: from few to all)",
                   [options](const Given& given) {
                     options->slots.clear();
                     for (const Given& item : parse_list(given)) {
                       options->slots.push_back(parse_int(item, 1, std::numeric_limits<int>::max()));
                     }
                   }});
  flags.push_back({"--policy", "LIST", "Caches",
                   fmt::format("some of {} (default: all); belady knows the future", fmt::join(known_policies(), ",")),
                   [options](const Given& given) {
                     const std::vector<std::string> known = known_policies();
                     const std::vector<std::string_view> choices(known.begin(), known.end());
                     options->policies.clear();
                     for (const Given& item : parse_list(given)) {
                       options->policies.push_back(known[parse_choice(item, choices)]);
                     }
                   }});
  flags.push_back(
      {"--warm-up", "N", "Caches", "decode steps that fill the slots and do not count (default: 0)",
       [options](const Given& given) { options->warm_up = parse_int(given, 0, std::numeric_limits<int>::max()); }});

  flags.push_back({"--disk-bandwidth", "RATE", "Speed", "bytes per second from the disk, for example 3.5GB",
                   [options](const Given& given) { options->disk_bandwidth = parse_bandwidth(given); }});
  flags.push_back({"--memory-bandwidth", "RATE", "Speed", "bytes per second from memory",
                   [options](const Given& given) { options->memory_bandwidth = parse_bandwidth(given); }});
  flags.push_back({"--expert-bytes", "SIZE", "Speed", "bytes of one expert (default: what the routes say)",
                   [options](const Given& given) { options->expert_bytes = parse_bytes(given); }});
  flags.push_back({"--dense-bytes", "SIZE", "Speed", "dense weights that a token touches (default: likewise)",
                   [options](const Given& given) { options->dense_bytes = parse_bytes(given); }});
  flags.push_back({"-m,--model", "MODEL", "Speed", "take sizes from this checkpoint, layer by layer",
                   [options](const Given& given) { options->model = given.text; }});
  flags.push_back({"--lookahead-recall", "R", "Speed", "share of misses that is guessed one layer ahead (default: 0)",
                   [options](const Given& given) { options->recall = parse_share(given); }});

  flags.push_back({"--json", "FILE", "Output", "write all counts as JSON",
                   [options](const Given& given) { options->json = parse_path(given); }});
  flags.push_back({"--svg", "FILE", "Output", "draw hit rate against slots",
                   [options](const Given& given) { options->svg = parse_path(given); }});
  return [options](const Environment& environment) { return simulate(*options, environment); };
}

}  // namespace sluice::tools
