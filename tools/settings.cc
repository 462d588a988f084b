#include "settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "cache/eviction_policy.h"
#include "stream/io_engine.h"
#include "stream/mapped_files.h"

namespace sluice::tools {

/// Settings while they are gathered: the switches of the MoE path only mean something together.
struct SettingsDraft {
  Settings settings;
  std::optional<model::MoePath> moe_path;
  std::string moe_path_source;
  std::optional<bool> moe_stacked, moe_fuse_gateup;
  std::string moe_stacked_source, moe_fuse_gateup_source;
  std::optional<std::string> effective;  // of the setting being applied, if it is not what was asked for
};

namespace {

using model::MoePath;

constexpr int kMaxThreads = 1024;
constexpr int kMaxInt = std::numeric_limits<int>::max();
constexpr std::string_view kPrefix = "SLUICE_";

/// In the order of MoePath.
constexpr std::array<std::string_view, 5> kMoePaths{"auto", "fused", "stacked", "stacked-split", "per-expert"};
constexpr std::array<std::string_view, 2> kActivations{"int16", "f32"};
constexpr std::array<std::string_view, 4> kCacheTypes{"f16", "bf16", "f32", "q8"};
constexpr std::array<std::string_view, 3> kPrefetch{"on", "off", "auto"};

/// Records that a setting has another value than asked for.
void notice(SettingsDraft& draft, const Given& given, std::string_view got, std::string_view reason) {
  draft.effective = got;
  draft.settings.notices.push_back(
      fmt::format("requested {} {}, got {} because {}", given.source, given.text, got, reason));
}

/// Names of the entries of a registry.
template <typename Entries>
std::vector<std::string_view> names_of(const Entries& entries) {
  std::vector<std::string_view> names;
  for (const auto& entry : entries) names.push_back(entry.name);
  return names;
}

std::vector<std::string_view> io_names() {
  std::vector<std::string_view> names = names_of(stream::io_engines());
  names.push_back(stream::kMmap);
  return names;
}

void apply_io(SettingsDraft& draft, const Given& given) {
  const auto names = io_names();
  draft.settings.runtime.io = names[parse_choice(given, names)];
}

void apply_policy(SettingsDraft& draft, const Given& given) {
  const auto names = names_of(cache::eviction_policies());
  draft.settings.runtime.policy = names[parse_choice(given, names)];
}

void apply_cache_type(SettingsDraft& draft, const Given& given) {
  constexpr std::array<DType, 4> kTypes{DType::f16, DType::bf16, DType::f32, DType::i8};
  draft.settings.runtime.cache_type = kTypes[parse_choice(given, kCacheTypes)];
}

void apply_prefetch(SettingsDraft& draft, const Given& given) {
  constexpr std::array<cache::LookaheadMode, 3> kModes{cache::LookaheadMode::on, cache::LookaheadMode::off,
                                                       cache::LookaheadMode::automatic};
  draft.settings.runtime.prefetch = kModes[parse_choice(given, kPrefetch)];
}

void apply_stream_experts(SettingsDraft& draft, const Given& given) {
  if (!parse_switch(given)) notice(draft, given, "1", "experts are always streamed");
}

void apply_moe_path(SettingsDraft& draft, const Given& given) {
  draft.moe_path = static_cast<MoePath>(parse_choice(given, kMoePaths));
  draft.moe_path_source = given.source;
}

void apply_moe_stacked(SettingsDraft& draft, const Given& given) {
  draft.moe_stacked = parse_switch(given);
  draft.moe_stacked_source = given.source;
}

void apply_moe_fuse_gateup(SettingsDraft& draft, const Given& given) {
  draft.moe_fuse_gateup = parse_switch(given);
  draft.moe_fuse_gateup_source = given.source;
}

std::vector<SettingRow> make_table() {
  using Draft = SettingsDraft;
  return {
      {"cache-slots", "", "N", "what memory allows", "expert slots per MoE layer", "MLX_MOE_CACHE_SLOTS", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.cache_slots = parse_int(given, 0, kMaxInt); }},
      {"memory", "", "SIZE", "what the machine allows", "bytes the whole process may use, for example 6GiB", "", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.memory = parse_size(given.text, given.source); }},
      {"threads", "-t", "N", "all CPUs this process may use", "threads that compute", "", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.threads = parse_int(given, 0, kMaxThreads); }},
      {"ctx-size", "-c", "N", "the model's, at most 8192", "positions of the context", "", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.ctx_size = parse_int(given, 0, kMaxInt); }},
      {"io", "", fmt::format("{}", fmt::join(io_names(), "|")), "the best that works",
       "how expert bytes are read from disk", "", true, apply_io},
      {"policy", "", fmt::format("{}", fmt::join(names_of(cache::eviction_policies()), "|")), "decay",
       "which expert leaves a full layer", "", true, apply_policy},
      {"heat", "", "FILE", "none", "start with the experts earlier runs used most; written at the end", "", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.heat = parse_path(given); }},
      {"prefetch", "", fmt::format("{}", fmt::join(kPrefetch, "|")), "auto",
       "read likely experts of the next layer while the disk is idle", "", true, apply_prefetch},
      {"experts-per-token", "", "K", "the model's", "route each token to K experts; this changes the model",
       "SWIFTLM_TOP_K", true,
       [](Draft& draft, const Given& given) {
         draft.settings.runtime.experts_per_token = parse_int(given, 0, kMaxInt);
       },
       true},
      {"moe-path", "", fmt::format("{}", fmt::join(kMoePaths, "|")), "auto",
       "how the experts of a layer are computed; all give the same text", "", true, apply_moe_path},
      {"activations", "", fmt::format("{}", fmt::join(kActivations, "|")), "int16",
       "what multiplies quantized weights; f32 is exact and slower", "", true,
       [](Draft& draft, const Given& given) {
         draft.settings.runtime.activations = static_cast<kernels::ActivationKind>(parse_choice(given, kActivations));
       },
       true},
      {"cache-type", "", fmt::format("{}", fmt::join(kCacheTypes, "|")), "f16; f32 if a position is small",
       "element type of keys and values", "", true, apply_cache_type, true},
      {"prefill-chunk", "", "N", "512, up to 4096 if the disk is slow", "prompt tokens computed at once", "", true,
       [](Draft& draft, const Given& given) { draft.settings.runtime.prefill_chunk = parse_int(given, 0, kMaxInt); }},
      {"stream-experts", "", "", "on", "accepted for compatibility: experts are always streamed", "", true,
       apply_stream_experts},
      {"stats", "", "", "off", "print full statistics at the end", "", true,
       [](Draft& draft, const Given& given) { draft.settings.stats = parse_switch(given); }},
      {"stats-json", "", "FILE", "none", "write statistics as JSON", "", true,
       [](Draft& draft, const Given& given) { draft.settings.stats_json = parse_path(given); }},
      {"route-trace", "", "FILE", "none", "write every routing decision, for simulate", "", true,
       [](Draft& draft, const Given& given) { draft.settings.route_trace = parse_path(given); }},
      {"probe", "", "", "off", "measure disk and memory again, instead of using the rates of an earlier run", "", true,
       [](Draft& draft, const Given& given) { draft.settings.probe = parse_switch(given); }},
      {"quiet", "", "", "off", "print errors and what was asked for, nothing else", "", true,
       [](Draft& draft, const Given& given) { draft.settings.quiet = parse_switch(given); }},
      {"moe-stacked", "", "", "not set", "0: --moe-path per-expert; 1: --moe-path stacked", "MLX_MOE_STACKED", false,
       apply_moe_stacked},
      {"moe-fuse-gateup", "", "", "1", "0, with SLUICE_MOE_STACKED=1: --moe-path stacked-split", "MLX_MOE_FUSE_GATEUP",
       false, apply_moe_fuse_gateup},
      {"isa", "", fmt::format("{}", fmt::join(names_of(kernels::all_isas()), "|")), "the fastest this machine has",
       "instruction set of the kernels", "", false,
       [](Draft& draft, const Given& given) { draft.settings.runtime.isa = given.text; }},
  };
}

/// The path that the switches ask for, unless --moe-path was given: that wins and says so.
void settle_moe_path(SettingsDraft& draft) {
  auto& notices = draft.settings.notices;
  const auto overruled = [&](const std::string& source, bool value, std::string_view got, std::string_view reason) {
    notices.push_back(fmt::format("requested {}={}, got {} because {}", source, value ? 1 : 0, got, reason));
  };
  const bool fuse_off = draft.moe_fuse_gateup == false;
  std::optional<MoePath> switched;
  if (draft.moe_stacked) {
    switched = !*draft.moe_stacked ? MoePath::per_expert : fuse_off ? MoePath::stacked_split : MoePath::stacked;
  }
  const MoePath path = draft.moe_path.value_or(switched.value_or(MoePath::automatic));
  const std::string got = fmt::format("--moe-path {}", kMoePaths[static_cast<std::size_t>(path)]);
  if (draft.moe_path) {
    const std::string reason = fmt::format("{} was given", draft.moe_path_source);
    if (switched && *switched != path) overruled(draft.moe_stacked_source, *draft.moe_stacked, got, reason);
  }
  if (fuse_off && path != MoePath::stacked_split) {
    overruled(draft.moe_fuse_gateup_source, false, got, "it only acts on the stacked path");
  }
  if (switched && !draft.moe_path) {
    model::SettingRecord* record = find_record(draft.settings.records, "moe_path");
    record->value = kMoePaths[static_cast<std::size_t>(path)];
    record->origin = fmt::format("environment {}", draft.moe_stacked_source);
  }
  draft.settings.runtime.moe_path = path;
}

/// A value, where it came from as a message names it, and as statistics name it.
struct Found {
  std::string text;
  std::string source;
  std::string origin;
};

std::optional<Found> find_value(const SettingRow& row, const FlagValues& flags, const Environment& environment) {
  if (const auto flag = flags.find(row.name); flag != flags.end()) {
    return Found{flag->second, fmt::format("--{}", row.name), fmt::format("flag --{}", row.name)};
  }
  for (const std::string& name : {environment_name(row.name), row.alias}) {
    const std::string_view value = get(environment, name);
    if (!value.empty()) return Found{std::string(value), name, fmt::format("environment {}", name)};
  }
  return std::nullopt;
}

/// rates.json in the user's cache directory, as the XDG base directory specification has it: a relative
/// $XDG_CACHE_HOME does not count.
std::filesystem::path rates_file(const Environment& environment) {
  std::filesystem::path cache = get(environment, "XDG_CACHE_HOME");
  if (!cache.is_absolute()) cache = std::filesystem::path(get(environment, "HOME")) / ".cache";
  return cache.is_absolute() ? cache / "sluice" / "rates.json" : std::filesystem::path();
}

}  // namespace

std::span<const SettingRow> setting_table() {
  static const std::vector<SettingRow> table = make_table();
  return table;
}

std::string record_name(std::string_view setting) {
  std::string name(setting);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string environment_name(std::string_view setting) {
  std::string name(kPrefix);
  for (const char c : record_name(setting)) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

Settings resolve_settings(const FlagValues& flags, const Environment& environment) {
  SettingsDraft draft;
  for (const SettingRow& row : setting_table()) {
    const std::optional<Found> found = find_value(row, flags, environment);
    draft.effective.reset();
    if (found) row.apply(draft, {found->text, found->source});
    const std::string value = found ? draft.effective.value_or(found->text) : row.fallback;
    draft.settings.records.push_back({record_name(row.name), value, found ? found->origin : "default"});
  }
  settle_moe_path(draft);
  if (draft.settings.runtime.io == stream::kMmap && draft.settings.runtime.memory) {
    fail_usage("--io mmap: computes in place from the mapping and cannot keep to --memory; give one of the two");
  }
  draft.settings.runtime.rates_file = rates_file(environment);
  return std::move(draft.settings);
}

void refuse_output_of_a_run(const FlagValues& flags, std::string_view verb) {
  for (const char* name : {"stats", "stats-json", "route-trace"}) {
    if (flags.contains(name))
      fail_usage("--{}: is of a run, and sluice {} runs nothing; give it to sluice run", name, verb);
  }
}

void check_environment(const Environment& environment) {
  std::vector<std::string> names;
  for (const SettingRow& row : setting_table()) names.push_back(environment_name(row.name));
  const std::vector<std::string_view> known(names.begin(), names.end());
  for (auto at = environment.lower_bound(kPrefix); at != environment.end() && at->first.starts_with(kPrefix); ++at) {
    if (std::find(known.begin(), known.end(), at->first) == known.end()) {
      fail_usage("{}: unknown environment variable; did you mean {}?", at->first, nearest(at->first, known));
    }
  }
}

}  // namespace sluice::tools
