#include "cache/schedule_bound.h"

#include <algorithm>
#include <cassert>

namespace sluice::cache {

ScheduleModel even_schedule(int layers, std::uint64_t dense_bytes, std::uint64_t head_bytes, std::uint64_t expert_bytes,
                            std::uint64_t read_bytes) {
  assert(layers >= 1 && head_bytes <= dense_bytes);
  const auto count = static_cast<std::uint64_t>(layers);
  const std::uint64_t each = (dense_bytes - head_bytes) / count;
  const ScheduleLayer layer{
      .before_router_bytes = each, .shared_bytes = 0, .expert_bytes = expert_bytes, .read_bytes = read_bytes};
  return {.layers = std::vector<ScheduleLayer>(static_cast<std::size_t>(layers), layer),
          .after_bytes = dense_bytes - each * count};
}

double schedule_seconds(const ScheduleModel& model, const ScheduleRates& rates, std::span<const LayerDemand> demands) {
  assert(demands.size() == model.layers.size());
  assert(rates.disk > 0 && rates.memory > 0 && rates.lookahead_recall >= 0 && rates.lookahead_recall <= 1);
  const auto memory_seconds = [&](std::uint64_t bytes) { return static_cast<double>(bytes) / rates.memory; };
  double computed = 0;   // of the layer before
  double routed = 0;     // likewise
  double disk_free = 0;  // when the reads of the layers before have ended
  for (std::size_t l = 0; l < demands.size(); ++l) {
    const ScheduleLayer& layer = model.layers[l];
    const std::uint64_t misses = demands[l].misses;
    const std::uint64_t hits = demands[l].lookups - misses;
    // The first byte of reads that are asked for at a time, of a disk that was busy until another.
    const auto first_byte = [&](double asked, double busy_until) {
      return std::max(busy_until, asked + rates.disk_latency);
    };
    const double guessed_from = first_byte(routed, disk_free);
    routed = computed + memory_seconds(layer.before_router_bytes);

    const double recall = l == 0 ? 0 : rates.lookahead_recall;
    const double guessed = recall * static_cast<double>(misses * layer.read_bytes);  // bytes
    const double guesses_read = guessed > 0 ? guessed_from + guessed / rates.disk : disk_free;
    const double demanded_from = first_byte(routed, guesses_read);
    const auto landed = [&](std::uint64_t experts) {
      const auto bytes = static_cast<double>(experts * layer.read_bytes);
      return bytes <= guessed ? guessed_from + bytes / rates.disk : demanded_from + (bytes - guessed) / rates.disk;
    };
    computed = routed + memory_seconds(hits * layer.expert_bytes + layer.shared_bytes);
    for (std::uint64_t expert = 1; expert <= misses; ++expert) {
      computed = std::max(computed, landed(expert)) + memory_seconds(layer.expert_bytes);
    }
    if (misses > 0) disk_free = landed(misses);
  }
  return computed + memory_seconds(model.after_bytes);
}

std::optional<double> schedule_seconds(const ScheduleModel& model, const ScheduleRates& rates, const RouteLog& log,
                                       std::span<const std::uint16_t> misses, std::size_t first_counted) {
  assert(misses.size() == log.size());
  double seconds = 0;
  std::uint64_t steps = 0;
  std::vector<LayerDemand> demands(model.layers.size());
  for (std::size_t i = first_counted; i < log.size();) {
    const std::uint64_t step = log[i].step;
    const bool decode = log[i].phase == Phase::decode;
    std::fill(demands.begin(), demands.end(), LayerDemand{});
    for (; i < log.size() && log[i].step == step; ++i) {
      LayerDemand& demand = demands[static_cast<std::size_t>(log[i].layer)];
      demand.lookups += static_cast<std::uint32_t>(log[i].ids.size());
      demand.misses += misses[i];
    }
    if (!decode) continue;
    seconds += schedule_seconds(model, rates, demands);
    ++steps;
  }
  if (steps == 0) return std::nullopt;
  return seconds / static_cast<double>(steps);
}

}  // namespace sluice::cache
