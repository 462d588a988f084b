#include "model/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/units.h"

namespace sluice::model {
namespace {

using nlohmann::ordered_json;

/// From a token's working set to all experts, and what the plan has.
std::set<int> slot_counts(const ModelPlan& plan) {
  const int experts = plan.expert_count();
  std::set<int> counts{plan.top_k, plan.budget.slots_per_layer};
  for (const int sixteenths : {2, 3, 4, 6, 8, 12, 16}) counts.insert(experts * sixteenths / 16);
  std::erase_if(counts, [&](int slots) { return slots < plan.top_k; });
  return counts;
}

/// The budget with that many slots, whatever there is.
cache::Budget budget_with_slots(const ModelPlan& plan, int slots) {
  cache::BudgetRequest request = plan.budget_request;
  request.memory_limit.reset();
  request.cache_slots = slots;
  return cache::plan_budget(request);
}

/// The budget if the process may use twice the bytes.
cache::Budget budget_with_double_memory(const ModelPlan& plan) {
  cache::BudgetRequest request = plan.budget_request;
  request.cache_slots.reset();
  request.memory_limit = 2 * plan.budget.limit_bytes.value_or(plan.budget.total_bytes());
  return cache::plan_budget(request);
}

std::string percent(const DecodePrediction& decode) {
  return decode.hit_rate ? fmt::format("{:.1f} %", 100 * *decode.hit_rate) : "none";
}

std::string bytes_text(double bytes) { return format_bytes(static_cast<std::uint64_t>(bytes)); }

std::string packing_text(const PackingRates& packing) {
  // Rates of two kinds of bursts differ by some percent on a drive to which both are the same.
  constexpr double kNoise = 1.05;
  const std::string gain = packing.gain() < kNoise
                               ? std::string("would gain nothing here")
                               : fmt::format("would bring {:.2f} times that where the disk binds", packing.gain());
  return fmt::format("packing    an expert's {} slices are read at {}, as one record at {}: sluice pack {}\n",
                     packing.slices, format_rate(packing.scattered), format_rate(packing.record), gain);
}

std::string head_text(const PlanReport& r) {
  std::string text = fmt::format("{}\nmodel      {}: {} layers", r.directory.string(), r.model_type, r.layers);
  if (r.moe_layers > 0) {
    text += fmt::format(", {} of them with up to {} experts, {} per token; {} of experts on disk", r.moe_layers,
                        r.experts, r.top_k, format_bytes(r.expert_bytes));
  }
  text += fmt::format("\ndisk       {}", format_rate(r.rates.disk));
  if (const stream::DriveProbeCell* best = r.rates.drive.best()) {
    text += fmt::format(" in reads of {}, {} at once", format_bytes(best->slice_bytes), best->depth);
  }
  text += fmt::format(" ({}, {})\n", r.io.engine, r.io.direct ? "direct" : "buffered");
  if (r.packing) text += packing_text(*r.packing);
  text += fmt::format("memory     {} with {} thread{}\n", format_rate(r.rates.memory), r.threads,
                      r.threads == 1 ? "" : "s");
  if (r.moe_layers > 0) {
    text += fmt::format("multiply   {:.3g} billion weights per second, many rows at once\nrouting    {}\n",
                        r.rates.multiply / 1e9, r.routes_origin);
  }
  return text;
}

/// What takes longest; "memory" alone could mean its size.
std::string_view binding_text(std::string_view binding) { return binding == "memory" ? "memory speed" : binding; }

std::string seconds_text(double seconds) { return fmt::format("{:.2g} s", seconds); }

std::string milliseconds(double seconds) { return fmt::format("{:.3g} ms", 1e3 * seconds); }

std::string prefill_text(const PlanReport& r) {
  const PrefillPrediction& p = r.prefill;
  if (r.moe_layers == 0) {
    return fmt::format("prefill    about {:.1f} tok/s for the first {} tokens of a prompt\n", p.tok_per_s, p.tokens);
  }
  std::string text =
      fmt::format("prefill    about {:.1f} tok/s, bound by {}; {} tokens at once use {:.1f} experts of a layer, {}\n",
                  p.tok_per_s, p.binding(), p.tokens, p.distinct_experts,
                  p.bytes_read > 0 ? bytes_text(p.bytes_read) + " to read" : "and nothing is read");
  if (p.bytes_read > 0) {
    text += fmt::format("           a chunk computes for {}, {} of it while the disk reads for {}, and waits for {}\n",
                        seconds_text(p.multiply_seconds), seconds_text(p.expert_seconds), seconds_text(p.disk_seconds),
                        seconds_text(p.wait_seconds));
  }
  text += fmt::format("           while slots are empty about {:.1f} tok/s, bound by {}, with {} to read\n",
                      r.cold_prefill.tok_per_s, r.cold_prefill.binding(), bytes_text(r.cold_prefill.bytes_read));
  return text + fmt::format("           chunk {}: {}\n", r.budget.chunk_tokens, to_string(r.chunk));
}

std::string speed_text(const PlanReport& r) {
  std::string text =
      fmt::format("\ndecode     up to {:.1f} tok/s, bound by {}", r.decode.tok_per_s, binding_text(r.decode.binding()));
  if (!r.decode.hit_rate) {
    text += "; every token touches all weights\n";
  } else if (r.decode.bytes_read > 0) {
    text += fmt::format("; {} of a token's experts are in slots, the others are {} to read\n", percent(r.decode),
                        bytes_text(r.decode.bytes_read));
    text += fmt::format("           of a token's time the disk needs {} and the memory {}, which overlap in part\n",
                        milliseconds(r.decode.disk_seconds), milliseconds(r.decode.memory_seconds));
    text += r.recall > 0 ? fmt::format("           if {:.0f} % of the misses are guessed and read one layer ahead\n",
                                       100 * r.recall)
                         : std::string("           without reading ahead\n");
  } else {
    text += "; all experts are in slots, and nothing is read\n";
  }
  return text + prefill_text(r) +
         "           Decode is a bound: what the order of the layers allows if software costs nothing. Prefill\n"
         "           is what the parts of a first chunk were measured to take; later ones attend to more positions.\n";
}

double ratio(double then, double now) { return now > 0 ? then / now : 1; }

std::string gain_text(const PlanReport& r, std::string_view change, const DecodePrediction& then,
                      const PrefillPrediction& prefill) {
  std::string text = fmt::format("  {:<22}decode ", change);
  if (then.slots_per_layer != r.decode.slots_per_layer) {
    text += fmt::format("{} slots per layer, {} hits, ", then.slots_per_layer, percent(then));
  }
  text += fmt::format("up to {:.1f} tok/s: {:.2f} times as fast\n", then.tok_per_s,
                      ratio(then.tok_per_s, r.decode.tok_per_s));
  return text + fmt::format("  {:<22}prefill about {:.1f} tok/s: {:.2f} times as fast\n", "", prefill.tok_per_s,
                            ratio(prefill.tok_per_s, r.prefill.tok_per_s));
}

std::string gains_text(const PlanReport& r) {
  return "\nwhat would help\n" + gain_text(r, "twice the RAM", r.double_memory, r.double_memory_prefill) +
         gain_text(r, "twice the disk speed", r.double_disk, r.double_disk_prefill);
}

std::string rows_text(const PlanReport& r) {
  std::string text = fmt::format("\n{:>5}  {:>10}  {:>7}  {:>14}  {:>12}  bound by\n", "slots", "memory", "hits",
                                 "read per token", "decode up to");
  for (const PlanRow& row : r.rows) {
    const DecodePrediction& decode = row.decode;
    text += fmt::format("{:5}  {:>10}  {:>7}  {:>14}  {:6.1f} tok/s  {}{}\n", decode.slots_per_layer,
                        format_bytes(row.memory_bytes), percent(decode), bytes_text(decode.bytes_read),
                        decode.tok_per_s, binding_text(decode.binding()),
                        decode.slots_per_layer == r.decode.slots_per_layer ? "  <- this plan" : "");
  }
  return text;
}

std::string grid_text(const std::vector<stream::DriveProbeCell>& cells) {
  std::set<unsigned> depths;
  std::map<std::uint64_t, std::map<unsigned, double>> rates;
  for (const stream::DriveProbeCell& cell : cells) {
    depths.insert(cell.depth);
    rates[cell.slice_bytes][cell.depth] = cell.bytes_per_second();
  }
  std::string text = "\nhow fast the disk is read, by size of a read and how many are in flight\n         ";
  for (const unsigned depth : depths) text += fmt::format("  {:>12}", depth);
  for (const auto& [slice, by_depth] : rates) {
    text += fmt::format("\n{:>9}", format_bytes(slice));
    for (const unsigned depth : depths) {
      const auto found = by_depth.find(depth);
      text += fmt::format("  {:>12}", found == by_depth.end() ? "-" : format_rate(found->second));
    }
  }
  return text + "\n";
}

std::string settings_text(const std::vector<SettingRecord>& settings) {
  std::size_t widest = 0;
  for (const SettingRecord& setting : settings) widest = std::max(widest, setting.value.size());
  std::string text = "\nsettings, and where each comes from\n";
  for (const SettingRecord& setting : settings) {
    text += fmt::format("  {:<18}{:<{}}  {}\n", setting.name, setting.value, widest, setting.origin);
  }
  return text;
}

ordered_json decode_json(const DecodePrediction& decode) {
  const auto bound = [](double seconds) { return seconds > 0 ? ordered_json(1 / seconds) : ordered_json(nullptr); };
  return {{"slots_per_layer", decode.slots_per_layer},
          {"hit_rate", decode.hit_rate ? ordered_json(*decode.hit_rate) : ordered_json(nullptr)},
          {"bytes_read_per_token", decode.bytes_read},
          {"disk_tok_per_s", bound(decode.disk_seconds)},
          {"memory_tok_per_s", bound(decode.memory_seconds)},
          {"schedule_tok_per_s", decode.tok_per_s > 0 ? ordered_json(decode.tok_per_s) : ordered_json(nullptr)},
          {"binding", decode.binding()}};
}

ordered_json prefill_json(const PrefillPrediction& prefill) {
  const bool known = prefill.tok_per_s > 0;
  return {{"tokens", prefill.tokens},
          {"distinct_experts_per_layer", prefill.distinct_experts},
          {"bytes_read", prefill.bytes_read},
          {"disk_seconds", prefill.disk_seconds},
          {"multiply_seconds", prefill.multiply_seconds},
          {"expert_multiply_seconds", prefill.expert_seconds},
          {"wait_seconds", prefill.wait_seconds},
          {"tok_per_s", known ? ordered_json(prefill.tok_per_s) : ordered_json(nullptr)},
          {"binding", known ? ordered_json(prefill.binding()) : ordered_json(nullptr)}};
}

}  // namespace

PlanReport make_plan_report(const ModelPlan& plan, const Rates& rates, const PromptRates& prompt,
                            const PlanRoutes& routes, const ChunkRows& rows, std::string_view policy_name) {
  const cache::PolicyEntry& policy = cache::eviction_policy(policy_name);
  const TokenSizes sizes = token_sizes(plan);
  const int slots = plan.budget.slots_per_layer;
  PlanReport report;
  report.directory = plan.checkpoint.directory();
  report.model_type = plan.spec.model_type;
  report.layers = plan.spec.layers;
  report.moe_layers = static_cast<int>(plan.experts.size());
  report.experts = plan.expert_count();
  report.top_k = plan.top_k;
  report.context = plan.context;
  report.expert_bytes = plan.expert_bytes();
  report.budget = plan.budget;
  report.chunk = plan.chunk;
  report.rates = rates;
  report.routes_origin = routes.origin;
  report.recall = planned_recall(plan);
  report.decode = predict_decode(sizes, rates, routes, slots, policy, report.recall);
  const int chunk = plan.budget.chunk_tokens;
  report.prefill = predict_prefill(sizes, rates, prompt, rows, chunk, {slots, slots});
  report.cold_prefill = predict_prefill(sizes, rates, prompt, rows, chunk, {slots, 0});
  Rates faster = rates;
  faster.disk *= 2;
  PromptRates faster_prompt = prompt;
  faster_prompt.disk *= 2;
  report.double_disk = predict_decode(sizes, faster, routes, slots, policy, report.recall);
  report.double_disk_prefill = predict_prefill(sizes, faster, faster_prompt, rows, chunk, {slots, slots});
  const cache::Budget twice = budget_with_double_memory(plan);
  report.double_memory = predict_decode(sizes, rates, routes, twice.slots_per_layer, policy, report.recall);
  const ChunkRows twice_rows = chunk_rows(routes.log, twice.chunk_tokens);  // memory may have limited the chunk too
  report.double_memory_prefill = predict_prefill(sizes, rates, prompt, twice_rows, twice.chunk_tokens,
                                                 {twice.slots_per_layer, twice.slots_per_layer});
  if (plan.experts.empty()) return report;
  for (const int count : slot_counts(plan)) {
    report.rows.push_back({.decode = predict_decode(sizes, rates, routes, count, policy, report.recall),
                           .memory_bytes = budget_with_slots(plan, count).total_bytes()});
  }
  return report;
}

std::string plan_text(const PlanReport& r) {
  std::string text = head_text(r) + speed_text(r);
  if (r.moe_layers > 0) text += gains_text(r);
  text += fmt::format("\nin memory, with a context of {} positions\n{}\n", r.context, r.budget.table());
  if (r.moe_layers > 0) text += rows_text(r);
  if (!r.rates.drive.cells.empty()) text += grid_text(r.rates.drive.cells);
  return text + settings_text(r.settings);
}

std::string plan_json(const PlanReport& r) {
  ordered_json j;
  j["model"] = {{"type", r.model_type},       {"directory", r.directory.string()}, {"layers", r.layers},
                {"moe_layers", r.moe_layers}, {"experts_per_layer", r.experts},    {"experts_per_token", r.top_k},
                {"context", r.context},       {"expert_bytes", r.expert_bytes}};
  ordered_json grid = ordered_json::array();
  for (const stream::DriveProbeCell& cell : r.rates.drive.cells) {
    grid.push_back({{"slice_bytes", cell.slice_bytes},
                    {"depth", cell.depth},
                    {"bytes", cell.bytes},
                    {"seconds", cell.seconds},
                    {"bytes_per_s", cell.bytes_per_second()}});
  }
  j["machine"] = {{"disk_bytes_per_s", r.rates.disk},
                  {"memory_bytes_per_s", r.rates.memory},
                  {"multiplications_per_s", r.rates.multiply},
                  {"threads", r.threads},
                  {"engine", r.io.engine},
                  {"direct", r.io.direct},
                  {"disk_grid", grid}};
  j["packing"] = nullptr;
  if (r.packing) {
    j["packing"] = {{"slices_per_expert", r.packing->slices},
                    {"scattered_bytes_per_s", r.packing->scattered},
                    {"record_bytes_per_s", r.packing->record}};
  }
  j["memory"] = {{"dense_bytes", r.budget.dense_bytes},         {"slot_bytes", r.budget.slot_bytes},
                 {"staging_bytes", r.budget.staging_bytes},     {"kv_bytes", r.budget.kv_bytes},
                 {"recurrent_bytes", r.budget.recurrent_bytes}, {"scratch_bytes", r.budget.scratch_bytes},
                 {"program_bytes", r.budget.overhead_bytes},    {"total_bytes", r.budget.total_bytes()},
                 {"slots_per_layer", r.budget.slots_per_layer}, {"slots_origin", r.budget.origin}};
  j["routing"] = r.routes_origin;
  j["lookahead_recall"] = r.recall;
  j["decode"] = decode_json(r.decode);
  j["prefill"] = prefill_json(r.prefill);
  j["prefill"]["chunk"] = r.budget.chunk_tokens;
  j["prefill"]["chunk_origin"] = to_string(r.chunk);
  j["prefill"]["chunk_disk_seconds"] = r.chunk.cost.disk_seconds;
  j["prefill"]["chunk_multiply_seconds"] = r.chunk.cost.multiply_seconds;
  j["cold_prefill"] = prefill_json(r.cold_prefill);
  j["double_memory"] = decode_json(r.double_memory);
  j["double_memory"]["prefill"] = prefill_json(r.double_memory_prefill);
  j["double_disk"] = decode_json(r.double_disk);
  j["double_disk"]["prefill"] = prefill_json(r.double_disk_prefill);
  j["slots"] = ordered_json::array();
  for (const PlanRow& row : r.rows) {
    ordered_json entry = decode_json(row.decode);
    entry["memory_bytes"] = row.memory_bytes;
    j["slots"].push_back(entry);
  }
  for (const SettingRecord& setting : r.settings) {
    j["settings"][setting.name] = {{"value", setting.value}, {"origin", setting.origin}};
  }
  j["notices"] = r.notices;
  return j.dump(1) + '\n';
}

}  // namespace sluice::model
