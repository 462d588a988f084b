#include "model/prediction.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "cache/schedule_bound.h"
#include "cache/simulate.h"
#include "model/routes/nearest_profile.h"
#include "model/routes/parse_trace.h"
#include "model/routes/route_source.h"

namespace sluice::model {
namespace {

// Of generated routes: recorded ones are stationary after 32 tokens, and large slots fill more slowly than that. 256
// more give a hit rate to within a point.
constexpr int kWarmUpTokens = 64;
constexpr int kCountedTokens = 256;
constexpr int kMostTokens = 512;  // of generated routes: those of the widest models take a second
constexpr std::uint64_t kSeed = 1;

bool decodes(const cache::RouteLog::Request& request) { return request.phase == cache::Phase::decode; }

/// The first request behind `steps` decode steps, or the first one if there are not twice as many.
std::size_t behind_warm_up(const cache::RouteLog& log, int steps) {
  int seen = 0;
  std::optional<std::uint64_t> last;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (!decodes(log[i]) || log[i].step == last) continue;
    last = log[i].step;
    if (seen++ == steps) begin = i;
  }
  return seen >= 2 * steps ? begin : 0;
}

struct UsedExperts {
  double per_layer = 0;  // distinct ones, on average over layers
  int tokens = 0;        // that used them
  int top_k = 0;
};

/// By the first decode steps, up to `tokens`. The log has one at least.
UsedExperts used_experts(const cache::RouteLog& log, int tokens) {
  UsedExperts used;
  const auto experts = static_cast<std::size_t>(log.experts());
  std::vector<bool> seen(static_cast<std::size_t>(log.layers()) * experts);
  std::optional<std::uint64_t> last;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (!decodes(log[i])) continue;
    if (log[i].step != last) {
      if (used.tokens == tokens) break;
      ++used.tokens;
      last = log[i].step;
    }
    used.top_k = static_cast<int>(log[i].ids.size());
    for (const std::uint16_t id : log[i].ids) seen[static_cast<std::size_t>(log[i].layer) * experts + id] = true;
  }
  used.per_layer = static_cast<double>(std::count(seen.begin(), seen.end(), true)) / log.layers();
  return used;
}

double per_second(double seconds, double count = 1) { return seconds > 0 ? count / seconds : 0; }

}  // namespace

TokenSizes token_sizes(const ModelPlan& plan) {
  TokenSizes sizes{.dense_bytes = plan.token_dense_bytes(),
                   .head_bytes = head_bytes(plan.checkpoint, plan.spec),
                   .token_expert_bytes = plan.token_expert_bytes(),
                   .expert_bytes = 0,
                   .read_bytes = 0,
                   .dense_weights = 0,
                   .token_expert_weights = 0,
                   .schedule = schedule_model(plan)};
  for (const BlockWeights& block : plan.weights.blocks) {
    sizes.dense_weights += block.weights - block.shared_weights;
    sizes.token_expert_weights += block.shared_weights;
  }
  std::uint64_t experts = 0;
  for (std::size_t layer = 0; layer < plan.experts.size(); ++layer) {
    const ExpertLayout& layout = plan.experts[layer];
    const auto of_layer = static_cast<std::uint64_t>(layout.records.experts);
    experts += of_layer;
    sizes.token_expert_weights += layout.weights() * static_cast<std::uint64_t>(layout.top_k);
    sizes.read_bytes += sizes.schedule.layers[layer].read_bytes * of_layer;
  }
  if (experts == 0) return sizes;
  sizes.expert_bytes = plan.expert_bytes() / experts;
  sizes.read_bytes /= experts;
  return sizes;
}

PlanRoutes generated_routes(const ModelPlan& plan) {
  const int layers = static_cast<int>(plan.experts.size());
  const int experts = plan.expert_count();
  PlanRoutes routes{.origin = "none: the model has no experts", .log = cache::RouteLog(layers, experts)};
  if (layers == 0) return routes;
  const RoutingProfile& profile = nearest_profile(plan.spec.model_type, layers, experts);
  RouteGenerator generator(profile, layers, experts, plan.top_k, kSeed);
  const int tokens = std::clamp(plan.budget.chunk_tokens, kWarmUpTokens + kCountedTokens, kMostTokens);
  routes.origin = fmt::format("generated, {} tokens in the manner of {}", tokens, profile.name);
  routes.log = generate_log(generator, tokens);
  routes.first_counted = behind_warm_up(routes.log, kWarmUpTokens);
  return routes;
}

PlanRoutes recorded_routes(const ModelPlan& plan, const std::filesystem::path& file) {
  const RouteTrace trace = read_trace(file);
  const TraceHeader& header = trace.header;
  const int layers = static_cast<int>(plan.experts.size());
  if (header.layers != layers || header.experts > plan.expert_count() || header.top_k != plan.top_k) {
    fail("{}: routes of another model: {} layers with {} experts, {} per token; expected {} with {}, {} per token",
         file.string(), header.layers, header.experts, header.top_k, layers, plan.expert_count(), plan.top_k);
  }
  PlanRoutes routes{.origin = fmt::format("recorded in {}", file.string()), .log = trace.log()};
  bool any = false;
  for (std::size_t i = 0; i < routes.log.size() && !any; ++i) any = decodes(routes.log[i]);
  if (!any) fail("{}: has prompts only; a plan needs decoded tokens", file.string());
  routes.first_counted = behind_warm_up(routes.log, cache::kWarmUpSteps);
  return routes;
}

double planned_recall(const ModelPlan& plan) { return plan.budget.staging_slots > 0 ? kLookaheadRecall : 0; }

DecodePrediction predict_decode(const TokenSizes& sizes, const Rates& rates, const PlanRoutes& routes, int slots,
                                const cache::PolicyEntry& policy, double recall) {
  DecodePrediction result;
  result.slots_per_layer = slots;
  const auto touched = static_cast<double>(sizes.dense_bytes + sizes.token_expert_bytes);
  if (rates.memory <= 0) return result;
  result.memory_seconds = touched / rates.memory;
  if (routes.log.layers() == 0) {
    result.tok_per_s = per_second(result.memory_seconds);
    return result;
  }
  cache::Simulation run = cache::simulate(routes.log, slots, policy, routes.first_counted);
  const cache::LookupCounts counts = run.counts(cache::Phase::decode);
  result.hit_rate = static_cast<double>(counts.hits) / static_cast<double>(counts.lookups);
  if (slots >= routes.log.experts()) {
    // Routes that are long enough read every expert once and never again.
    std::fill(run.misses.begin(), run.misses.end(), std::uint16_t{0});
    result.hit_rate = 1;
  }
  if (rates.disk <= 0) return result;
  const double lookups = static_cast<double>(sizes.token_expert_bytes) / static_cast<double>(sizes.expert_bytes);
  result.bytes_read = lookups * (1 - *result.hit_rate) * static_cast<double>(sizes.read_bytes);
  result.disk_seconds = result.bytes_read / rates.disk;
  const cache::ScheduleRates schedule_rates{
      .disk = rates.disk, .memory = rates.memory, .disk_latency = rates.disk_latency, .lookahead_recall = recall};
  const auto seconds =
      cache::schedule_seconds(sizes.schedule, schedule_rates, routes.log, run.misses, routes.first_counted);
  result.tok_per_s = per_second(seconds.value_or(0));
  return result;
}

PrefillPrediction predict_prefill(const TokenSizes& sizes, const Rates& rates, const PlanRoutes& routes,
                                  int chunk_tokens, int slots) {
  PrefillPrediction result;
  result.tokens = chunk_tokens;
  if (const cache::RouteLog& log = routes.log; log.layers() > 0) {
    const UsedExperts used = used_experts(log, chunk_tokens);
    const double experts = log.experts();
    result.distinct_experts = std::min(experts, used.per_layer * used_share(log.experts(), used.top_k, chunk_tokens) /
                                                    used_share(log.experts(), used.top_k, used.tokens));
    const double missing = result.distinct_experts * std::max(0.0, 1 - slots / experts);
    result.bytes_read = missing * log.layers() * static_cast<double>(sizes.read_bytes);
  }
  if (rates.multiply <= 0 || (rates.disk <= 0 && result.bytes_read > 0)) return result;
  const double dense_seconds = chunk_tokens * static_cast<double>(sizes.dense_weights) / rates.multiply;
  result.expert_seconds = chunk_tokens * static_cast<double>(sizes.token_expert_weights) / rates.multiply;
  result.multiply_seconds = dense_seconds + result.expert_seconds;
  if (result.bytes_read > 0) result.disk_seconds = result.bytes_read / rates.disk;
  result.tok_per_s = per_second(dense_seconds + std::max(result.disk_seconds, result.expert_seconds), chunk_tokens);
  return result;
}

}  // namespace sluice::model
