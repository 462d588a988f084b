#include "flags.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace sluice::tools {
namespace {

std::vector<std::string> split_names(const Flag& flag) {
  std::vector<std::string> names;
  std::string_view rest = flag.names;
  while (true) {
    const std::string_view name = rest.substr(0, rest.find(','));
    names.emplace_back(name);
    if (name.size() == rest.size()) return names;
    rest.remove_prefix(name.size() + 1);
  }
}

/// The first long name: what messages call the flag.
std::string shown_name(const Flag& flag) {
  const std::vector<std::string> names = split_names(flag);
  const auto is_long = [](const std::string& name) { return name.starts_with("--"); };
  const auto found = std::find_if(names.begin(), names.end(), is_long);
  return found == names.end() ? names.front() : *found;
}

/// One dash and several letters, as llama.cpp's -sys: several flags at once to the parser, which therefore gets the
/// long name instead.
bool is_long_with_one_dash(std::string_view name) {
  return name.size() > 2 && name.starts_with("-") && !name.starts_with("--");
}

void declare(CLI::App& app, const Flag& flag, std::vector<std::string>& arguments) {
  const std::string source = shown_name(flag);
  std::vector<std::string> names = split_names(flag);
  for (const std::string& name : names) {
    if (is_long_with_one_dash(name)) std::replace(arguments.begin(), arguments.end(), name, source);
  }
  names.erase(std::remove_if(names.begin(), names.end(), is_long_with_one_dash), names.end());
  const std::string declared = fmt::format("{}", fmt::join(names, ","));
  if (flag.value.empty() && source.starts_with("-")) {
    app.add_flag_function(declared, [&flag, source](std::int64_t count) {
      flag.apply({count > 0 ? "1" : "0", source});
    });
    return;
  }
  if (flag.values > 1) {
    const auto apply_each = [&flag, source](const std::vector<std::string>& texts) {
      for (const std::string& text : texts) flag.apply({text, source});
    };
    app.add_option_function<std::vector<std::string>>(declared, apply_each)
        ->type_size(flag.values)
        ->expected(1)
        ->allow_extra_args(false)
        ->take_last()
        ->required(flag.required);
    return;
  }
  CLI::Option* option = app.add_option_function<std::string>(declared, [&flag, source](const std::string& text) {
    flag.apply({text, source});
  });
  option->take_last()->required(flag.required);
}

/// The first argument that nothing understood.
void refuse_extras(const CLI::App& app, const VerbFlags& verb) {
  const std::vector<std::string> extras = app.remaining();
  if (extras.empty()) return;
  const std::string word = extras.front().substr(0, extras.front().find('='));
  if (!word.starts_with("-")) fail_usage("unexpected argument '{}'; see sluice {} --help", word, verb.name);
  std::vector<std::string> names{"--help"};
  for (const Flag& flag : verb.flags) {
    for (std::string& name : split_names(flag)) names.push_back(std::move(name));
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  fail_usage("unknown flag {}; did you mean {}? See sluice {} --help", word, nearest(word, known), verb.name);
}

}  // namespace

void add_model(std::vector<Flag>& flags, std::optional<std::string>& model) {
  flags.push_back({"-m,--model", "MODEL", "Input",
                   "directory, or org/name in the Hugging Face cache (default: the embedded model)",
                   [&model](const Given& given) { model = given.text; }});
}

void add_settings(std::vector<Flag>& flags, FlagValues& values) {
  for (const SettingRow& row : setting_table()) {
    if (!row.has_flag) continue;
    const std::string dashed = fmt::format("--{}", row.name);
    const std::string help = row.value.empty() ? row.help : fmt::format("{} (default: {})", row.help, row.fallback);
    flags.push_back({row.short_flag.empty() ? dashed : fmt::format("{},{}", row.short_flag, dashed), row.value,
                     kSettingsGroup, help, [&values, &row](const Given& given) { values[row.name] = given.text; }});
  }
}

bool parse_flags(const VerbFlags& verb, std::vector<std::string> arguments) {
  CLI::App app;
  bool help = false;
  app.set_help_flag();
  app.add_flag("-h,--help", help);
  app.allow_extras();
  for (const Flag& flag : verb.flags) declare(app, flag, arguments);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (help) return false;  // then it does not matter what else is missing
    refuse_extras(app, verb);
    fail_usage("{}; see sluice {} --help", error.what(), verb.name);
  }
  if (!help) refuse_extras(app, verb);
  return !help;
}

}  // namespace sluice::tools
