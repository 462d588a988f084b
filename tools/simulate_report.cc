#include "simulate_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "plot.h"

namespace sluice::tools {
namespace {

using cache::LookupCounts;
using cache::Phase;
using nlohmann::ordered_json;

ordered_json number(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(nullptr); }

ordered_json counts_json(const LookupCounts& counts) {
  return {{"lookups", counts.lookups},
          {"hits", counts.hits},
          {"misses_cold", counts.misses_cold},
          {"misses_capacity", counts.misses_capacity},
          {"hit_rate", number(counts.hit_rate())}};
}

/// A row for each number of slots, a column for each policy.
std::string table(const SimulationReport& report, const std::function<double(const SimulatedCache&)>& value) {
  std::string text = fmt::format("{:>6}  {:>10}", "slots", "of experts");
  for (const std::string& policy : report.policies) text += fmt::format("  {:>8}", policy);
  text += '\n';
  for (std::size_t s = 0; s < report.slots.size(); ++s) {
    text += fmt::format("{:6}  {:8.1f} %", report.slots[s], 100.0 * report.slots[s] / report.header.experts);
    for (std::size_t p = 0; p < report.policies.size(); ++p) {
      text += fmt::format("  {:8.1f}", value(report.cache(s, p)));
    }
    text += '\n';
  }
  return text;
}

double hit_percent(const SimulatedCache& simulated) {
  return 100 * simulated.simulation.counts(Phase::decode).hit_rate().value_or(0);
}

std::string title(const SimulationReport& report) {
  return report.header.model.empty() ? report.source : report.header.model;
}

}  // namespace

std::string simulation_text(const SimulationReport& report) {
  std::string text = fmt::format("{}: {} MoE layers, {} experts, {} per token\n{} prefill and {} decode steps",
                                 title(report), report.header.layers, report.header.experts, report.header.top_k,
                                 report.prefill_steps, report.decode_steps);
  if (report.warm_up > 0) text += fmt::format("; the first {} of decode warm up and do not count", report.warm_up);
  text += "\n\nhit rate in decode, %\n" + table(report, hit_percent);
  if (report.prediction) {
    const PredictionInputs& inputs = *report.prediction;
    text += fmt::format(
        "\ntokens per second at most, with {} from disk, {} from memory, {} per expert, {} dense {}, recall {:g}\n",
        format_rate(static_cast<double>(inputs.disk_bandwidth)),
        format_rate(static_cast<double>(inputs.memory_bandwidth)), format_bytes(inputs.expert_bytes),
        format_bytes(inputs.dense_bytes), inputs.exact ? "as the layers have them" : "spread evenly",
        inputs.lookahead_recall);
    text += table(report, [](const SimulatedCache& simulated) { return simulated.tok_per_s.value_or(0); });
  }
  return text;
}

std::string simulation_json(const SimulationReport& report) {
  ordered_json j;
  j["source"] = report.source;
  j["model"] = report.header.model;
  j["layers"] = report.header.layers;
  j["experts"] = report.header.experts;
  j["top_k"] = report.header.top_k;
  j["prefill_steps"] = report.prefill_steps;
  j["decode_steps"] = report.decode_steps;
  j["warm_up"] = report.warm_up;
  j["prediction"] = nullptr;
  if (report.prediction) {
    j["prediction"] = {{"disk_bytes_per_s", report.prediction->disk_bandwidth},
                       {"memory_bytes_per_s", report.prediction->memory_bandwidth},
                       {"expert_bytes", report.prediction->expert_bytes},
                       {"dense_bytes", report.prediction->dense_bytes},
                       {"layer_by_layer", report.prediction->exact},
                       {"lookahead_recall", report.prediction->lookahead_recall}};
  }
  j["results"] = ordered_json::array();
  for (const SimulatedCache& simulated : report.caches) {
    ordered_json result{{"policy", simulated.policy}, {"slots", simulated.slots}};
    result.update(counts_json(simulated.simulation.counts(Phase::decode)));
    result["tok_per_s"] = number(simulated.tok_per_s);
    result["prefill"] = counts_json(simulated.simulation.counts(Phase::prefill));
    result["per_layer"] = ordered_json::array();
    for (const auto& layer : simulated.simulation.layers) {
      result["per_layer"].push_back(counts_json(layer[static_cast<std::size_t>(Phase::decode)]));
    }
    j["results"].push_back(std::move(result));
  }
  return j.dump(1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
}

std::string simulation_svg(const SimulationReport& report) {
  Plot plot{.title = fmt::format("{}: hit rate against slots", title(report)),
            .x_label = fmt::format("expert slots per layer, of {}", report.header.experts),
            .y_label = "hits in decode, %",
            .y_max = 100,
            .lines = {}};
  for (std::size_t p = 0; p < report.policies.size(); ++p) {
    PlotLine line{.name = report.policies[p], .points = {}};
    for (std::size_t s = 0; s < report.slots.size(); ++s) {
      line.points.emplace_back(report.slots[s], hit_percent(report.cache(s, p)));
    }
    plot.lines.push_back(std::move(line));
  }
  return plot_svg({std::move(plot)});
}

}  // namespace sluice::tools
