// What a run reports, as lines for people and as JSON.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/units.h"
#include "model/statistics.h"

namespace sluice::model {

using nlohmann::ordered_json;

namespace {

/// Absent values are null, never a made-up number.
ordered_json number(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(nullptr); }
ordered_json known(double value) { return value > 0 ? ordered_json(value) : ordered_json(nullptr); }

ordered_json counts_json(const cache::LookupCounts& counts, bool mapped = false) {
  // What a mapping finds in the page cache is not counted by anyone.
  if (mapped) {
    return {{"lookups", nullptr},
            {"hits", nullptr},
            {"misses_cold", nullptr},
            {"misses_capacity", nullptr},
            {"hit_rate", nullptr}};
  }
  return {{"lookups", counts.lookups},
          {"hits", counts.hits},
          {"misses_cold", counts.misses_cold},
          {"misses_capacity", counts.misses_capacity},
          {"hit_rate", number(counts.hit_rate())}};
}

std::optional<double> fraction(double speed, std::optional<double> bound) {
  return speed > 0 && bound ? std::optional(speed / *bound) : std::nullopt;
}

/// The tightest of some bounds, and how close `speed` came to it.
ordered_json bound_json(const std::optional<Bound>& bound, double speed) {
  if (!bound) return {{"max_tok_per_s", nullptr}, {"fraction", nullptr}, {"binding", nullptr}};
  return {{"max_tok_per_s", bound->tok_per_s},
          {"fraction", number(fraction(speed, bound->tok_per_s))},
          {"binding", bound->resource}};
}

std::string_view reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop_token:
      return "stop_token";
    case FinishReason::max_tokens:
      return "max_tokens";
    case FinishReason::context_full:
      return "context_full";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::failed:
      return "failed";
  }
  return "";
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return fmt::format("{:.1f}", whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

/// How much of the weights lies on huge pages, which save a part of the time that address translation takes.
std::string huge_pages_text(const RunStatistics& s) {
  const std::uint64_t weights = s.model.dense_bytes + s.model.slot_bytes;
  if (!s.huge_page_bytes || weights == 0) return "";
  // KV cache and scratch may lie on huge pages too, so this can be more than all.
  return fmt::format("; {:.0f} % of the weights on huge pages",
                     100 * std::min(1.0, static_cast<double>(*s.huge_page_bytes) / static_cast<double>(weights)));
}

}  // namespace

std::string regret_text(const cache::Regret& regret) {
  if (!regret.belady_hit_rate) return "";
  return fmt::format("best possible at this size {:.1f} % hits; half the slots {:.1f} %, twice {:.1f} %",
                     100 * *regret.belady_hit_rate, 100 * *regret.half_slots_hit_rate,
                     100 * *regret.double_slots_hit_rate);
}

std::string mapped_text(const RunStatistics& s) {
  std::string text = "from the mapping (page cache)";
  if (s.device_bytes) text += fmt::format("; {} fetched from disk in all", format_bytes(*s.device_bytes));
  return text;
}

std::string statistics_text(const RunStatistics& s) {
  std::string text = fmt::format("prefill {:6} tok {:7.1f} tok/s", s.generation.prompt_tokens, s.prefill_speed());
  if (s.prefill_lookups.lookups > 0)
    text += fmt::format("   read {}", format_bytes(s.bytes_read(cache::Phase::prefill)));
  if (const std::optional<Bound> bound = s.prefill_bound(); bound && s.prefill_speed() > 0) {
    text += fmt::format("   {:.0f} % of the {:.1f} tok/s that {} allows", 100 * s.prefill_speed() / bound->tok_per_s,
                        bound->tok_per_s, bound->resource);
  }
  text += fmt::format("\ndecode  {:6} tok {:7.1f} tok/s", s.generation.decode_steps, s.decode_speed());
  const cache::LookupCounts& decode = s.decode_lookups;
  if (decode.lookups > 0) {
    text += fmt::format("   hit {} % (miss: cold {}, capacity {})", percent(decode.hits, decode.lookups),
                        percent(decode.misses_cold, decode.lookups), percent(decode.misses_capacity, decode.lookups));
    if (s.generation.decode_steps > 0) {
      text += fmt::format("   read {}/tok", format_bytes(s.bytes_read(cache::Phase::decode) /
                                                         static_cast<std::uint64_t>(s.generation.decode_steps)));
    }
    if (decode.bytes_read > 0 && s.decode_stall_seconds > 0) {
      text += fmt::format(", waited {:.0f} % of the time",
                          100 * s.decode_stall_seconds / std::max(s.generation.decode_seconds, s.decode_stall_seconds));
      if (s.decode_bursts.seconds > 0) {
        text += fmt::format(", reading at {}", format_rate(s.decode_bursts.bytes_per_second()));
      }
    }
  }
  text += '\n';
  if (s.decode_ahead.reads > 0) {
    text +=
        fmt::format("ahead   {:6} experts read before the router asked, {} % of them needed: {:.0f} % of the misses\n",
                    s.decode_ahead.reads, percent(s.decode_ahead.used, s.decode_ahead.reads),
                    100 * s.lookahead_recall().value_or(0));
  }
  if (const std::optional<Bound> bound = s.bound()) {
    const std::optional<double> disk = s.disk_bound();
    const std::optional<double> memory = s.memory_bound();
    text += "bound   ";
    if (disk) text += fmt::format("disk {:.1f} tok/s at {}", *disk, format_rate(s.rates.disk));
    if (disk && memory) text += ", ";
    if (memory) text += fmt::format("memory {:.1f} tok/s at {}", *memory, format_rate(s.rates.memory));
    if (s.decode_speed() > 0) {
      text +=
          fmt::format(": {:.0f} % of what this {} allows", 100 * s.decode_speed() / bound->tok_per_s, bound->resource);
    }
    if (s.rates.age_seconds) text += fmt::format(" ({}; --probe measures again)", age_text(s.rates));
    text += '\n';
  }
  if (s.schedule_bound) {
    text += fmt::format("schedule {:.1f} tok/s: {:.0f} % of what the order of the layers allows\n", *s.schedule_bound,
                        100 * s.decode_speed() / *s.schedule_bound);
  }
  if (const std::string regret = regret_text(s.regret); !regret.empty()) text += fmt::format("regret  {}\n", regret);
  text +=
      fmt::format("memory  {} peak: dense {}, slots {}, KV {} at full context", format_bytes(s.rss_peak_bytes),
                  format_bytes(s.model.dense_bytes), format_bytes(s.model.slot_bytes), format_bytes(s.model.kv_bytes));
  if (s.model.moe_layers > 0 && !s.model.mapped) {
    text += fmt::format("; {} of {} experts per layer in slots ({})", s.model.slots_per_layer, s.model.experts,
                        s.model.slots_origin);
  }
  text += huge_pages_text(s);
  if (s.model.warm_start.slots > 0) {
    text += fmt::format("\nwarm    {} slots filled during load, {} read", s.model.warm_start.slots,
                        format_bytes(s.model.warm_start.bytes));
  }
  if (s.slots_retired > 0) {
    text += fmt::format("\nshort   memory was: {} slots given back, {} of them taken again", s.slots_retired,
                        s.slots_restored);
  }
  if (s.model.mapped) {
    text += fmt::format("\nexperts {}\nio      mmap; dense weights in {} reads", mapped_text(s), s.io.reads);
  } else {
    text += fmt::format("\nio      {}{}, {} reads", s.io_choice.engine, s.io_choice.direct ? ", direct" : ", buffered",
                        s.io.reads);
  }
  if (!s.io_choice.reason.empty()) text += fmt::format(" ({})", s.io_choice.reason);
  return text + '\n';
}

std::string statistics_json(const RunStatistics& s) {
  const auto counted = [&](auto value) { return s.model.mapped ? ordered_json(nullptr) : ordered_json(value); };
  ordered_json j;
  j["model"] = {{"type", s.model.model_type},         {"directory", s.model.directory.string()},
                {"layers", s.model.layers},           {"hidden", s.model.hidden},
                {"vocabulary", s.model.vocabulary},   {"context", s.model.context},
                {"experts_per_token", s.model.top_k}, {"isa", s.model.isa},
                {"threads", s.model.threads},         {"prefill_chunk", s.model.prefill_chunk}};
  for (const SettingRecord& setting : s.settings) {
    j["settings"][setting.name] = {{"value", setting.value}, {"origin", setting.origin}};
  }
  j["notices"] = s.model.notices;
  j["load"] = {{"seconds", s.model.load_seconds},
               {"slots_filled", s.model.warm_start.slots},
               {"slots_filled_bytes", s.model.warm_start.bytes}};
  j["finish_reason"] = reason_name(s.generation.reason);
  j["prefill"] = {{"tokens", s.generation.prompt_tokens},
                  {"seconds", s.generation.prefill_seconds},
                  {"tok_per_s", s.prefill_speed()},
                  {"bytes_read", counted(s.bytes_read(cache::Phase::prefill))},
                  {"bytes_needed", counted(s.prefill_lookups.bytes_needed)},
                  {"stall_seconds", counted(s.prefill_stall_seconds)},
                  {"cache", counts_json(s.prefill_lookups, s.model.mapped)}};
  j["prefill"]["bound"] = {{"disk_tok_per_s", number(s.prefill_disk_bound())},
                           {"memory_tok_per_s", number(s.prefill_memory_bound())},
                           {"multiply_tok_per_s", number(s.prefill_multiply_bound())}};
  j["prefill"]["bound"].update(bound_json(s.prefill_bound(), s.prefill_speed()));
  j["decode"] = {{"tokens", s.generation.decode_steps},
                 {"seconds", s.generation.decode_seconds},
                 {"tok_per_s", s.decode_speed()},
                 {"bytes_read", counted(s.bytes_read(cache::Phase::decode))},
                 {"bytes_needed", counted(s.decode_lookups.bytes_needed)},
                 {"stall_seconds", counted(s.decode_stall_seconds)}};
  ordered_json per_layer = ordered_json::array();
  for (const cache::LookupCounts& counts : s.layers) per_layer.push_back(counts_json(counts));
  j["cache"] = {{"slots_per_layer", s.model.slots_per_layer},
                {"slots_origin", s.model.slots_origin},
                {"layers", s.model.moe_layers},
                {"experts_per_layer", s.model.experts}};
  j["cache"].update(counts_json(s.decode_lookups, s.model.mapped));
  j["cache"]["steady_hit_rate"] = number(s.steady_hit_rate);
  j["cache"]["speculative_reads"] = s.decode_ahead.reads;
  j["cache"]["speculative_used"] = s.decode_ahead.used;
  j["cache"]["speculative_recall"] = number(s.lookahead_recall());
  j["cache"]["per_layer"] = per_layer;
  j["io"] = {{"engine", s.io_choice.engine},
             {"direct", s.io_choice.direct},
             {"reason", s.io_choice.reason},
             {"reads", s.io.reads},
             {"bytes", s.io.bytes},
             {"short_reads", s.io.short_reads},
             {"retries", s.io.retries},
             {"device_bytes", s.device_bytes ? ordered_json(*s.device_bytes) : ordered_json(nullptr)},
             {"queue_depth", s.io.max_in_flight},
             {"bandwidth_bytes_per_s", known(s.decode_bursts.bytes_per_second())},
             {"probe_bandwidth_bytes_per_s", known(s.rates.disk)},
             {"probe_latency_seconds", known(s.rates.disk_latency)},
             {"probe_age_seconds", number(s.rates.age_seconds)}};
  j["bound"] = {{"disk_tok_per_s", number(s.disk_bound())},
                {"memory_tok_per_s", number(s.memory_bound())},
                {"schedule_tok_per_s", number(s.schedule_bound)},
                {"schedule_fraction", number(fraction(s.decode_speed(), s.schedule_bound))}};
  j["bound"].update(bound_json(s.bound(), s.decode_speed()));
  j["regret"] = {{"belady_hit_rate", number(s.regret.belady_hit_rate)},
                 {"half_slots_hit_rate", number(s.regret.half_slots_hit_rate)},
                 {"double_slots_hit_rate", number(s.regret.double_slots_hit_rate)}};
  j["memory"] = {{"dense_bytes", s.model.dense_bytes},
                 {"slot_bytes", s.model.slot_bytes},
                 {"staging_bytes", s.model.staging_bytes},
                 {"kv_bytes", s.model.kv_bytes},
                 {"scratch_bytes", s.model.scratch_bytes},
                 {"budget_bytes", s.model.budget_bytes},
                 {"rss_peak_bytes", s.rss_peak_bytes},
                 {"huge_page_bytes", s.huge_page_bytes ? ordered_json(*s.huge_page_bytes) : ordered_json(nullptr)},
                 {"major_faults", s.major_faults},
                 {"slots_retired", s.slots_retired},
                 {"slots_restored", s.slots_restored},
                 {"memory_bandwidth_bytes_per_s", known(s.rates.memory)}};
  return j.dump(1) + '\n';
}

}  // namespace sluice::model
