#include "model/statistics.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "base/units.h"
#include "cache/available_memory.h"
#include "cache/schedule_bound.h"
#include "model/plan.h"
#include "stream/io_counters.h"

namespace sluice::model {

namespace {

std::optional<double> ratio(double part, double whole) {
  return whole > 0 ? std::optional(part / whole) : std::nullopt;
}

/// What `rate` per second allows if so many tokens take `amount`; none if any of them is unknown or nothing.
std::optional<double> limit(double rate, int tokens, double amount) {
  return rate > 0 && tokens > 0 ? ratio(rate * tokens, amount) : std::nullopt;
}

struct Limit {
  std::optional<double> tok_per_s;  // none if unknown
  std::string_view resource;
};

/// The first of equals.
std::optional<Bound> tightest(std::initializer_list<Limit> limits) {
  std::optional<Bound> bound;
  for (const Limit& limit : limits) {
    if (!limit.tok_per_s || (bound && bound->tok_per_s <= *limit.tok_per_s)) continue;
    bound = Bound{*limit.tok_per_s, limit.resource};
  }
  return bound;
}

/// The schedule bound of the recorded routes at the probed rates, in tokens per second; none if a rate is not known.
std::optional<double> schedule_bound(const RunStatistics& s, const Model& model, const cache::RouteLog& log,
                                     std::size_t first_counted) {
  const std::uint64_t misses = s.decode_lookups.lookups - s.decode_lookups.hits;
  if (s.rates.memory <= 0 || (s.rates.disk <= 0 && misses > 0)) return std::nullopt;
  const cache::ScheduleModel schedule = schedule_model(model.plan());
  const cache::ScheduleRates rates{.disk = s.rates.disk > 0 ? s.rates.disk : std::numeric_limits<double>::infinity(),
                                   .memory = s.rates.memory,
                                   .disk_latency = s.rates.disk_latency,
                                   .lookahead_recall = s.lookahead_recall().value_or(0)};
  const cache::Simulation run =
      cache::simulate(log, s.model.slots_per_layer, cache::eviction_policy(model.experts()->policy()));
  const std::optional<double> seconds = cache::schedule_seconds(schedule, rates, log, run.misses, first_counted);
  return seconds ? std::optional(1 / *seconds) : std::nullopt;
}

/// Leaves in `s` what was counted after `since`.
void subtract(const RunStatistics& since, RunStatistics& s) {
  s.prefill_lookups -= since.prefill_lookups;
  s.decode_lookups -= since.decode_lookups;
  for (std::size_t layer = 0; layer < s.layers.size(); ++layer) s.layers[layer] -= since.layers[layer];
  s.prefill_ahead -= since.prefill_ahead;
  s.decode_ahead -= since.decode_ahead;
  s.prefill_stall_seconds -= since.prefill_stall_seconds;
  s.decode_stall_seconds -= since.decode_stall_seconds;
  s.decode_bursts.bytes -= since.decode_bursts.bytes;
  s.decode_bursts.seconds -= since.decode_bursts.seconds;
  s.steady_hit_rate = std::nullopt;  // of the run as a whole
  s.io.reads -= since.io.reads;
  s.io.bytes -= since.io.bytes;
  s.io.short_reads -= since.io.short_reads;
  s.io.retries -= since.io.retries;
  if (s.device_bytes && since.device_bytes) *s.device_bytes -= *since.device_bytes;
  s.major_faults -= since.major_faults;
}

}  // namespace

std::optional<double> RunStatistics::disk_bound() const {
  return limit(rates.disk, generation.decode_steps, static_cast<double>(decode_lookups.bytes_read));
}

std::optional<double> RunStatistics::memory_bound() const {
  return limit(rates.memory, 1, static_cast<double>(model.token_dense_bytes + model.token_expert_bytes));
}

std::optional<Bound> RunStatistics::bound() const {
  return tightest({{disk_bound(), "disk"}, {memory_bound(), "memory"}});
}

std::optional<double> RunStatistics::prefill_disk_bound() const {
  return limit(rates.disk, generation.prompt_tokens, static_cast<double>(prefill_lookups.bytes_read));
}

std::optional<double> RunStatistics::prefill_memory_bound() const {
  const double chunks = std::ceil(static_cast<double>(generation.prompt_tokens) / std::max(1, model.prefill_chunk));
  const auto head = static_cast<double>(model.head_bytes);
  double touched = head + chunks * (static_cast<double>(model.token_dense_bytes) - head);
  if (const int experts_of_token = model.moe_layers * model.top_k; experts_of_token > 0) {
    const double expert_bytes = static_cast<double>(model.token_expert_bytes) / experts_of_token;
    touched += static_cast<double>(prefill_lookups.lookups) * expert_bytes;
  }
  return limit(rates.memory, generation.prompt_tokens, touched);
}

std::optional<double> RunStatistics::prefill_multiply_bound() const {
  return limit(rates.multiply, 1, static_cast<double>(model.prompt_weights));
}

std::optional<Bound> RunStatistics::prefill_bound() const {
  if (generation.prompt_tokens == 0) return std::nullopt;
  return tightest({{prefill_disk_bound(), "disk"},
                   {prefill_memory_bound(), "memory"},
                   {prefill_multiply_bound(), "multiplication"}});
}

std::uint64_t RunStatistics::bytes_read(cache::Phase phase) const {
  const bool prefill = phase == cache::Phase::prefill;
  const cache::SpeculationCounts& ahead = prefill ? prefill_ahead : decode_ahead;
  return (prefill ? prefill_lookups : decode_lookups).bytes_read + ahead.bytes_read - ahead.bytes_used;
}

std::optional<double> RunStatistics::lookahead_recall() const {
  return ratio(static_cast<double>(decode_ahead.used),
               static_cast<double>(decode_lookups.lookups - decode_lookups.hits));
}

double RunStatistics::decode_speed() const {
  return generation.decode_seconds > 0 ? generation.decode_steps / generation.decode_seconds : 0;
}

double RunStatistics::prefill_speed() const {
  return generation.prefill_seconds > 0 ? generation.prompt_tokens / generation.prefill_seconds : 0;
}

RunStatistics collect_statistics(Model& model, const GenerateResult& generation, std::vector<SettingRecord> settings,
                                 const RatesSource& rates, RouteRecorder* routes, const RunStatistics* since) {
  RunStatistics s;
  s.model = model.info();
  s.settings = std::move(settings);
  s.generation = generation;
  if (const cache::ExpertCache* experts = model.experts()) {
    s.prefill_lookups = experts->counts(cache::Phase::prefill);
    s.decode_lookups = experts->counts(cache::Phase::decode);
    s.prefill_ahead = experts->speculation(cache::Phase::prefill);
    s.decode_ahead = experts->speculation(cache::Phase::decode);
    s.steady_hit_rate = experts->steady_counts().hit_rate();
    for (int layer = 0; layer < experts->layers(); ++layer) {
      s.layers.push_back(experts->counts(layer, cache::Phase::decode));
    }
    s.prefill_stall_seconds = experts->stall_seconds(cache::Phase::prefill);
    s.decode_stall_seconds = experts->stall_seconds(cache::Phase::decode);
    s.decode_bursts = experts->bursts(cache::Phase::decode);
    s.slots_retired = experts->slots_retired();
    s.slots_restored = experts->slots_restored();
  }
  s.io = model.reader().stats();
  s.io_choice = model.info().io;
  if (const auto process = stream::read_process_io()) s.device_bytes = process->read_bytes;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  s.rss_peak_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * kKiB;
  s.major_faults = static_cast<std::uint64_t>(usage.ru_majflt);
  s.huge_page_bytes = cache::huge_page_bytes();
  if (since != nullptr) subtract(*since, s);
  if (rates) s.rates = rates();
  if (routes != nullptr && model.experts() != nullptr) {
    const cache::RouteLog& log = routes->history().log();
    const std::size_t first_counted = routes->history().first_counted();
    s.regret = cache::compute_regret(log, s.model.slots_per_layer, cache::eviction_policy(model.experts()->policy()),
                                     first_counted);
    s.schedule_bound = schedule_bound(s, model, log, first_counted);
  }
  return s;
}

}  // namespace sluice::model
