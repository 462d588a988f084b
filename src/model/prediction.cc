#include "model/prediction.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <deque>
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

double per_second(double seconds, double count = 1) { return seconds > 0 ? count / seconds : 0; }

}  // namespace

TokenSizes token_sizes(const ModelPlan& plan) {
  TokenSizes sizes{.dense_bytes = plan.token_dense_bytes(),
                   .head_bytes = head_bytes(plan.checkpoint, plan.spec),
                   .token_expert_bytes = plan.token_expert_bytes(),
                   .expert_bytes = 0,
                   .read_bytes = 0,
                   .expert_weights = 0,
                   .shared_weights = 0,
                   .schedule = schedule_model(plan)};
  for (const BlockWeights& block : plan.weights.blocks) sizes.shared_weights += block.shared_weights;
  std::uint64_t experts = 0;
  for (std::size_t layer = 0; layer < plan.experts.size(); ++layer) {
    const ExpertLayout& layout = plan.experts[layer];
    const auto of_layer = static_cast<std::uint64_t>(layout.records.experts);
    experts += of_layer;
    sizes.expert_weights += layout.weights() * of_layer;
    sizes.read_bytes += sizes.schedule.layers[layer].read_bytes * of_layer;
  }
  if (experts == 0) return sizes;
  sizes.expert_bytes = plan.expert_bytes() / experts;
  sizes.read_bytes /= experts;
  sizes.expert_weights /= experts;
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
  result.hit_rate = counts.hit_rate().value_or(0);
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

ChunkRows chunk_rows(const cache::RouteLog& log, int chunk_tokens) {
  ChunkRows rows(static_cast<std::size_t>(log.layers()), std::vector<double>(static_cast<std::size_t>(log.experts())));
  int tokens = 0;
  int top_k = 0;
  std::optional<std::uint64_t> last;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (!decodes(log[i])) continue;
    if (log[i].step != last) {
      if (tokens == chunk_tokens) break;
      ++tokens;
      last = log[i].step;
    }
    top_k = static_cast<int>(log[i].ids.size());
    for (const std::uint16_t id : log[i].ids) ++rows[static_cast<std::size_t>(log[i].layer)][id];
  }
  if (tokens == 0 || tokens == chunk_tokens) return rows;
  const double more_tokens = static_cast<double>(chunk_tokens) / tokens;
  const double more_experts = used_share(log.experts(), top_k, chunk_tokens) / used_share(log.experts(), top_k, tokens);
  for (std::vector<double>& layer : rows) {
    const auto used = layer.size() - static_cast<std::size_t>(std::count(layer.begin(), layer.end(), 0.0));
    auto fresh = std::lround(static_cast<double>(used) * (more_experts - 1));
    for (double& count : layer) {
      count = count == 0 && fresh > 0 ? static_cast<double>(fresh-- > 0) : count * more_tokens;
    }
  }
  return rows;
}

double distinct_experts(const ChunkRows& rows) {
  double used = 0;
  for (const std::vector<double>& layer : rows) {
    used += static_cast<double>(std::count_if(layer.begin(), layer.end(), [](double count) { return count > 0; }));
  }
  return rows.empty() ? 0 : used / static_cast<double>(rows.size());
}

PrefillLayerSeconds prefill_layer_seconds(const std::vector<double>& rows, PrefillSlots slots, double row_seconds,
                                          double read_seconds, double latency, double shared_seconds) {
  assert(slots.filled <= slots.per_layer);
  std::vector<std::size_t> misses;  // in the order of reading
  for (std::size_t e = 0; e < rows.size(); ++e) {
    if (rows[e] > 0) misses.push_back(e);
  }
  std::vector<std::size_t> hits = misses;
  std::stable_sort(hits.begin(), hits.end(), [&](std::size_t a, std::size_t b) { return rows[a] > rows[b]; });
  hits.resize(std::min(hits.size(), static_cast<std::size_t>(slots.filled)));
  std::erase_if(misses, [&](std::size_t e) { return std::find(hits.begin(), hits.end(), e) != hits.end(); });

  double now = shared_seconds;
  PrefillLayerSeconds seconds{.compute = shared_seconds};
  // When each slot is free to read into: at once, unless an expert of this chunk is in it.
  std::deque<double> free(static_cast<std::size_t>(slots.per_layer) - hits.size());
  const auto compute = [&](std::size_t expert) {
    now += rows[expert] * row_seconds;
    seconds.compute += rows[expert] * row_seconds;
    free.push_back(now);
  };
  for (const std::size_t expert : hits) compute(expert);
  double disk = 0;  // when it has done what it was asked for
  for (const std::size_t expert : misses) {
    const double asked = free.front();
    free.pop_front();
    disk = std::max(disk, asked + latency) + read_seconds;
    seconds.wait += std::max(0.0, disk - now);
    now = std::max(now, disk);
    compute(expert);
  }
  return seconds;
}

PrefillPrediction predict_prefill(const TokenSizes& sizes, const Rates& rates, const PromptRates& prompt,
                                  const ChunkRows& rows, int chunk_tokens, PrefillSlots slots) {
  PrefillPrediction result;
  result.tokens = chunk_tokens;
  result.distinct_experts = distinct_experts(rows);
  double misses = 0;  // of all layers
  for (const std::vector<double>& layer : rows) {
    misses += std::max<double>(0, distinct_experts({layer}) - slots.filled);
  }
  result.bytes_read = misses * static_cast<double>(sizes.read_bytes);
  if (prompt.block_seconds <= 0) return result;
  result.multiply_seconds = chunk_tokens * prompt.block_seconds;
  const double multiply = misses > 0 ? prompt.multiply : rates.multiply;
  if (!rows.empty() && (multiply <= 0 || (misses > 0 && prompt.disk <= 0))) return result;
  if (misses > 0) result.disk_seconds = result.bytes_read / prompt.disk;
  const double read_seconds = misses > 0 ? static_cast<double>(sizes.read_bytes) / prompt.disk : 0;
  const double shared =
      static_cast<double>(sizes.shared_weights) / std::max<double>(1, static_cast<double>(rows.size()));
  for (const std::vector<double>& layer : rows) {
    const PrefillLayerSeconds seconds =
        prefill_layer_seconds(layer, slots, static_cast<double>(sizes.expert_weights) / multiply, read_seconds,
                              rates.disk_latency, chunk_tokens * shared / multiply);
    result.expert_seconds += seconds.compute;
    result.wait_seconds += seconds.wait;
  }
  result.multiply_seconds += result.expert_seconds;
  result.tok_per_s = per_second(result.multiply_seconds + result.wait_seconds, chunk_tokens);
  return result;
}

}  // namespace sluice::model
