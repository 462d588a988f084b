#include "load_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/units.h"
#include "progress.h"
#include "stream/mapped_files.h"

namespace sluice::tools {
namespace {

/// Slots of the embedded model: fewer than its 32 experts.
constexpr int kEmbeddedSlots = 12;
constexpr const char* kEmbeddedSlotsOrigin = "embedded model: fewer slots than experts, so that a first run streams";

/// Settings that were left to the program and what it chose.
EffectiveSettings effective_settings(const model::Model& model) {
  const model::ModelInfo& info = model.info();
  return {
      {"cache_slots", std::to_string(info.slots_per_layer)},
      {"memory", std::to_string(info.budget_bytes)},
      {"threads", std::to_string(info.threads)},
      {"ctx_size", std::to_string(info.context)},
      {"io", info.io.engine},
      {"cache_type", cache_type_name(info.cache_type)},
      {"experts_per_token", std::to_string(info.top_k)},
      {"prefill_chunk", std::to_string(info.prefill_chunk)},
      {"isa", info.isa},
  };
}

}  // namespace

std::unique_ptr<model::Model> load_model(const std::filesystem::path& directory, Settings& settings,
                                         const Environment& environment) {
  if (settings.quiet) log::set_level(log::Level::error);
  Progress progress = progress_on_stderr("loading", settings.quiet, environment);
  auto model = model::Model::load(directory, settings.runtime,
                                  [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
  progress.finish();
  record_effective(settings, effective_settings(*model));
  if (const std::string& origin = model->info().chunk_origin; !origin.empty()) {
    find_record(settings.records, "prefill_chunk")->origin = origin;
  }
  const auto& from_model = model->info().notices;
  const auto needs_experts = [&](std::string_view flag, const std::filesystem::path& file) {
    if (file.empty() || model->info().moe_layers > 0) return;
    settings.notices.push_back(
        fmt::format("requested --{} {}, got none because the model has no experts to route to", flag, file.string()));
    find_record(settings.records, record_name(flag))->value = "none";
  };
  needs_experts("route-trace", settings.route_trace);
  needs_experts("heat", settings.runtime.heat);
  const auto needs_slots = [&](std::string_view flag) {
    model::SettingRecord* record = find_record(settings.records, record_name(flag));
    if (!model->info().mapped || record->origin == "default") return;
    settings.notices.push_back(
        fmt::format("requested --{} {}, got none because --io mmap has no slots", flag, record->value));
    record->value = "none";
  };
  needs_slots("policy");
  needs_slots("heat");
  settings.notices.insert(settings.notices.end(), from_model.begin(), from_model.end());
  if (!settings.quiet) {
    for (const std::string& notice : settings.notices) log::warn("{}", notice);
  }
  return model;
}

void use_embedded_slots(Settings& settings) {
  if (settings.runtime.cache_slots || settings.runtime.memory || settings.runtime.io == stream::kMmap) return;
  settings.runtime.cache_slots = std::max(kEmbeddedSlots, settings.runtime.experts_per_token);
  find_record(settings.records, "cache_slots")->origin = kEmbeddedSlotsOrigin;
}

void record_effective(Settings& settings, const EffectiveSettings& effective) {
  for (const auto& [name, value] : effective) find_record(settings.records, name)->value = value;
}

std::string cache_type_name(DType type) {
  std::string name;
  for (const char c : name_of(type)) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

}  // namespace sluice::tools
