// sluice plan: measures this machine and says how fast a model can go on it, before it is loaded.
#include "model/plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "find_model.h"
#include "kernels/isa.h"
#include "kernels/thread_team.h"
#include "load_model.h"
#include "model/packing_probe.h"
#include "model/plan_report.h"
#include "model/prompt_probe.h"
#include "model/rates.h"
#include "model/rates_cache.h"
#include "output_file.h"
#include "stream/mapped_files.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

struct PlanOptions {
  std::optional<std::string> model;
  std::filesystem::path trace, json;
  FlagValues settings;
};

/// A reader of the checkpoint's files, chosen as for a run.
stream::Reader open_reader(const stream::Checkpoint& checkpoint, const std::string& io) {
  const auto files = checkpoint.files();
  const auto largest =
      std::max_element(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  stream::Reader reader = stream::Reader::open(io, largest->path);
  for (const stream::FileInfo& file : files) reader.add_file(file.path);
  return reader;
}

/// What decides speed: settings that somebody gave, and those that the program chose.
std::vector<model::SettingRecord> telling_records(const Settings& settings, const EffectiveSettings& effective) {
  std::vector<model::SettingRecord> records;
  std::copy_if(settings.records.begin(), settings.records.end(), std::back_inserter(records), [&](const auto& record) {
    const auto chosen = [&](const auto& pair) { return pair.first == record.name; };
    return record.origin != "default" || std::any_of(effective.begin(), effective.end(), chosen);
  });
  return records;
}

int plan(const PlanOptions& options, const Environment& environment) {
  refuse_output_of_a_run(options.settings, "plan");
  Settings settings = resolve_settings(options.settings, environment);
  const ModelChoice choice = find_model(options.model, environment, program_path());
  if (!options.json.empty()) check_writable(options.json);
  if (choice.embedded) use_embedded_slots(settings);
  if (settings.quiet) log::set_level(log::Level::error);
  if (settings.runtime.io == stream::kMmap) {
    settings.notices.emplace_back("requested --io mmap, got the best engine because a plan is made for slots");
    settings.runtime.io.clear();
  }

  model::ModelPlan plan(choice.directory, settings.runtime);
  kernels::ThreadTeam team(settings.runtime.threads > 0 ? settings.runtime.threads : kernels::available_cpus());
  stream::Reader reader = open_reader(plan.checkpoint, settings.runtime.io);
  const kernels::Context context{kernels::select_isa(settings.runtime.isa), team, settings.runtime.activations};
  const model::Rates rates = model::measure_rates(plan, reader, context);
  // The next run chooses its chunk by the same rates.
  model::RatesCache(settings.runtime.rates_file).store(model::rates_key(plan, reader.choice(), context), rates);
  const std::optional<model::PackingRates> packing =
      model::probe_packing(plan.experts, plan.checkpoint.files(), reader);
  plan.choose_chunk({.disk = rates.disk, .multiply = rates.multiply});
  const model::PlanRoutes routes =
      options.trace.empty() ? model::generated_routes(plan) : model::recorded_routes(plan, options.trace);
  const model::ChunkRows rows = model::chunk_rows(routes.log, plan.budget.chunk_tokens);
  const model::PromptRates prompt = model::probe_prompt(plan, model::distinct_experts(rows), reader, context);

  model::PlanReport report = model::make_plan_report(plan, rates, prompt, routes, rows, settings.runtime.policy);
  report.packing = packing;
  report.io = reader.choice();
  report.threads = team.size();
  const EffectiveSettings effective{
      {"cache_slots", std::to_string(plan.budget.slots_per_layer)},
      {"memory", format_bytes(plan.budget.limit_bytes.value_or(plan.budget.total_bytes()))},
      {"threads", std::to_string(team.size())},
      {"ctx_size", std::to_string(plan.context)},
      {"io", reader.choice().engine},
      {"cache_type", cache_type_name(plan.cache_type)},
      {"experts_per_token", std::to_string(plan.top_k)},
      {"prefill_chunk", std::to_string(plan.budget.chunk_tokens)},
      {"isa", std::string(context.isa.name)},
  };
  record_effective(settings, effective);
  for (const char* name : {"cache_slots", "memory"}) {
    model::SettingRecord* record = find_record(settings.records, name);
    if (record->origin == "default") record->origin = plan.budget.origin;
  }
  model::SettingRecord* chunk = find_record(settings.records, "prefill_chunk");
  if (plan.chunk.reason != model::PrefillChunkReason::given) chunk->origin = to_string(plan.chunk);
  report.settings = telling_records(settings, effective);
  report.notices = settings.notices;
  report.notices.insert(report.notices.end(), plan.notices.begin(), plan.notices.end());
  if (!reader.choice().reason.empty()) report.notices.push_back(reader.choice().reason);

  for (const std::string& notice : report.notices) log::warn("{}", notice);
  fmt::print("{}", model::plan_text(report));
  if (!options.json.empty()) write_file(options.json, model::plan_json(report));
  return 0;
}

}  // namespace

Action declare_plan(std::vector<Flag>& flags) {
  const auto options = std::make_shared<PlanOptions>();
  add_model(flags, options->model);
  flags.push_back({"--trace", "FILE", "Input",
                   "recorded routes, as --route-trace writes them (default: like a related model's)",
                   [options](const Given& given) { options->trace = parse_path(given); }});
  flags.push_back({"--json", "FILE", "Output", "write everything as JSON",
                   [options](const Given& given) { options->json = parse_path(given); }});
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return plan(*options, environment); };
}

}  // namespace sluice::tools
