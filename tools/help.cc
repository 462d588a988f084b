// The texts that describe flags: --help, and the tables of docs/, which a test compares with these.
#include <fmt/format.h>

#include <algorithm>

#include "flags.h"

namespace sluice::tools {
namespace {

/// The last group of every verb.
constexpr const char* kOther = "Other";

/// "-n, --max-tokens N", names quoted.
std::string spelling(const Flag& flag, const char* quote) {
  std::string text = quote;
  for (const char c : flag.names) {
    if (c == ',') {
      text += fmt::format("{0}, {0}", quote);
    } else {
      text += c;
    }
  }
  text += quote;
  return flag.value.empty() ? text : fmt::format("{} {}", text, flag.value);
}

/// A bar inside a cell would end it.
std::string cell(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// Groups in the order in which they first appear.
std::vector<std::string> groups(const VerbFlags& verb) {
  std::vector<std::string> names;
  for (const Flag& flag : verb.flags) {
    if (std::find(names.begin(), names.end(), flag.group) == names.end()) names.push_back(flag.group);
  }
  return names;
}

std::vector<const Flag*> flags_of(const VerbFlags& verb, const std::string& group) {
  std::vector<const Flag*> flags;
  for (const Flag& flag : verb.flags) {
    if (flag.group == group) flags.push_back(&flag);
  }
  return flags;
}

}  // namespace

std::string help_text(const VerbFlags& verb) {
  constexpr std::size_t kHelpColumn = 36;  // where the explanations start
  const auto row = [&](const std::string& left, const std::string& right) {
    const bool fits = left.size() + 2 <= kHelpColumn;
    return fits ? fmt::format("{:<{}}{}\n", left, kHelpColumn, right)
                : fmt::format("{}\n{:{}}{}\n", left, "", kHelpColumn, right);
  };
  std::string text = fmt::format("usage: sluice {}\n\n{}\n", verb.usage, verb.summary);
  for (const std::string& group : groups(verb)) {
    text += fmt::format("\n{}:\n", group);
    for (const Flag* flag : flags_of(verb, group)) text += row(fmt::format("  {}", spelling(*flag, "")), flag->help);
    if (group == kSettingsGroup) {
      text += "  Each of these is also read from the environment: SLUICE_CACHE_SLOTS=8 is --cache-slots 8.\n";
    }
  }
  return text + fmt::format("\n{}:\n{}", kOther, row("  -h, --help", "this text"));
}

std::string help_markdown(const VerbFlags& verb, Tables tables) {
  std::string text;
  for (const std::string& group : groups(verb)) {
    if ((group == kSettingsGroup) != (tables == Tables::settings)) continue;
    text += fmt::format("{}| {} | |\n| --- | --- |\n", text.empty() ? "" : "\n", group);
    for (const Flag* flag : flags_of(verb, group)) {
      text += fmt::format("| {} | {} |\n", cell(spelling(*flag, "`")), cell(flag->help));
    }
  }
  return text;
}

std::string environment_markdown() {
  std::string text = "| Variable | Flag | Value | Default | Meaning |\n| --- | --- | --- | --- | --- |\n";
  for (const SettingRow& row : setting_table()) {
    std::string names = fmt::format("`{}`", environment_name(row.name));
    if (!row.alias.empty()) names += fmt::format(", `{}`", row.alias);
    text += fmt::format("| {} | {} | {} | {} | {} |\n", names, row.has_flag ? fmt::format("`--{}`", row.name) : "none",
                        cell(row.value.empty() ? "1|0" : row.value), row.fallback, cell(row.help));
  }
  return text;
}

}  // namespace sluice::tools
