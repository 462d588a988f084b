// The settings that every verb which loads a model understands. One table says what there is; flags, environment
// variables, --help and the tables of docs/ follow from it.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "environment.h"
#include "model/settings.h"
#include "model/statistics.h"
#include "values.h"

namespace sluice::tools {

/// Settled settings: for the model, for the program, and where each came from.
struct Settings {
  model::RuntimeSettings runtime;
  bool stats = false;
  bool quiet = false;
  std::filesystem::path stats_json;   // empty: not wanted
  std::filesystem::path route_trace;  // likewise
  bool probe = false;                 // measure disk and memory even if their rates are cached

  std::vector<model::SettingRecord> records;  // every setting, in the order of the table
  std::vector<std::string> notices;           // "requested X, got Y because Z"
};

struct SettingsDraft;

/// One setting.
struct SettingRow {
  std::string name;        // the flag without its dashes
  std::string short_flag;  // "-c", or empty
  std::string value;       // placeholder in --help; empty for a switch
  std::string fallback;    // the default, in words
  std::string help;
  std::string alias;  // the environment variable by which users of another program know it, or empty
  bool has_flag;      // false: only an environment variable
  void (*apply)(SettingsDraft&, const Given&);  // throws UsageError naming the source
  bool changes_text = false;                    // and not speed alone
};

std::span<const SettingRow> setting_table();

/// The heading of the common settings among the flags of a verb.
inline constexpr const char* kSettingsGroup = "Settings";

/// "SLUICE_CACHE_SLOTS" for "cache-slots".
std::string environment_name(std::string_view setting);

/// Values given as flags, by setting name; a switch has the value "1".
using FlagValues = std::map<std::string, std::string, std::less<>>;

/// Settles every setting: a flag wins over SLUICE_NAME, that over the alias, that over the default. Throws UsageError
/// for a value that cannot be used, naming the flag or variable it came from.
Settings resolve_settings(const FlagValues& flags, const Environment& environment);

/// Throws UsageError for flags that ask for what only a run prints or writes. `verb` runs nothing.
void refuse_output_of_a_run(const FlagValues& flags, std::string_view verb);

/// Throws UsageError for a variable that starts with SLUICE_ and is not in the table, suggesting the nearest: a
/// misspelt variable would otherwise be ignored in silence.
void check_environment(const Environment& environment);

/// The record of a setting by its name in statistics, or null. `records` is a vector of records, const or not.
template <typename Records>
auto* find_record(Records& records, std::string_view name) {
  const auto found =
      std::find_if(records.begin(), records.end(), [&](const auto& record) { return record.name == name; });
  return found == records.end() ? nullptr : &*found;
}

/// The name of a setting in statistics: "cache_slots" for "cache-slots".
std::string record_name(std::string_view setting);

}  // namespace sluice::tools
