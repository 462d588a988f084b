#include "report.h"

#include <fmt/core.h>

#include <cstdio>
#include <optional>

#include "base/units.h"
#include "model/rates_cache.h"
#include "output_file.h"

namespace sluice::tools {
namespace {

std::string experts_line(const model::RunStatistics& s) {
  if (s.model.mapped) return fmt::format("experts  {}\n", model::mapped_text(s));
  const cache::LookupCounts& decode = s.decode_lookups;
  std::string line = fmt::format("experts  {} of {} per layer in memory", s.model.slots_per_layer, s.model.experts);
  if (const std::optional<double> hit_rate = decode.hit_rate(); hit_rate) {
    line += fmt::format(", {:.1f} % hits", 100 * *hit_rate);
  }
  line += fmt::format("; read {} from disk",
                      format_bytes(s.bytes_read(cache::Phase::prefill) + s.bytes_read(cache::Phase::decode)));
  if (s.generation.decode_steps > 0) {
    const auto steps = static_cast<std::uint64_t>(s.generation.decode_steps);
    line += fmt::format(", {} per token", format_bytes(s.bytes_read(cache::Phase::decode) / steps));
  }
  return line + "\n";
}

/// What the tighter bound is, and how much of it was reached.
std::string bound_line(const model::RunStatistics& s) {
  const std::optional<model::Bound> bound = s.bound();
  if (s.decode_speed() <= 0 || !bound) return "";
  const std::string age = model::age_text(s.rates);
  return fmt::format("bound    {:.1f} tok/s by the {}; {:.0f} % of it reached{}\n", bound->tok_per_s, bound->resource,
                     100 * s.decode_speed() / bound->tok_per_s, age.empty() ? "" : fmt::format(" ({})", age));
}

/// A drive may be faster than when its rates were cached. What the run itself has beaten is no bound, so it is measured
/// again.
bool beaten(const model::RunStatistics& s) {
  const std::optional<model::Bound> bound = s.bound();
  return s.rates.age_seconds && bound && s.decode_speed() > bound->tok_per_s;
}

model::RunStatistics collect(model::Model& model, const model::GenerateResult& generation, const Settings& settings,
                             model::RouteRecorder& routes) {
  // A probe would read the files again that the run has failed to read.
  if (generation.reason == model::FinishReason::failed) {
    return model::collect_statistics(model, generation, settings.records, {}, &routes);
  }
  const model::RatesCache cache(settings.runtime.rates_file);
  const auto with_rates = [&](bool refresh) {
    return model::collect_statistics(
        model, generation, settings.records, [&] { return model::cached_rates(model, cache, refresh); }, &routes);
  };
  model::RunStatistics statistics = with_rates(settings.probe);
  return beaten(statistics) ? with_rates(true) : statistics;
}

}  // namespace

std::string closing_text(const model::RunStatistics& s) {
  std::string text = fmt::format("speed    prompt {} tokens at {:.1f} tok/s, then {} tokens",
                                 s.generation.prompt_tokens, s.prefill_speed(), s.generation.generated_tokens);
  if (s.decode_speed() > 0) text += fmt::format(" at {:.1f} tok/s", s.decode_speed());
  const model::SettingRecord* temperature = find_record(s.settings, "temp");
  if (temperature != nullptr && temperature->value != "0") {
    text += fmt::format(" (seed {})", find_record(s.settings, "seed")->value);
  }
  text += "\n";
  if (s.model.moe_layers > 0) text += experts_line(s);
  text += bound_line(s);
  const std::string regret = model::regret_text(s.regret);
  return regret.empty() ? text : text + fmt::format("regret   {}\n", regret);
}

void check_output_files(const Settings& settings) {
  for (const std::filesystem::path& path : {settings.stats_json, settings.route_trace, settings.runtime.heat}) {
    if (!path.empty()) check_writable(path);
  }
}

void report(model::Model& model, const model::GenerateResult& generation, const Settings& settings,
            model::RouteRecorder& routes) {
  if (const std::string heat = settings.runtime.heat.empty() ? "" : model.heat_text(); !heat.empty()) {
    write_file(settings.runtime.heat, heat);
  }
  const bool wanted = settings.stats || !settings.stats_json.empty();
  if (settings.quiet && !wanted) return;
  model::RunStatistics statistics = collect(model, generation, settings, routes);
  statistics.model.notices = settings.notices;
  if (const model::SettingRecord* slots = find_record(statistics.settings, "cache_slots"); slots->origin != "default") {
    statistics.model.slots_origin = slots->origin;
  }
  if (!settings.stats_json.empty()) write_file(settings.stats_json, model::statistics_json(statistics));
  if (settings.stats) {
    fmt::print(stderr, "{}", model::statistics_text(statistics));
  } else if (!settings.quiet) {
    fmt::print(stderr, "{}", closing_text(statistics));
  }
}

}  // namespace sluice::tools
