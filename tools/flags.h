// Flags of a verb as data: declared once, parsed and shown from the same rows.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "settings.h"
#include "values.h"

namespace sluice::tools {

/// One flag, or a positional argument.
struct Flag {
  std::string names;  // "-n,--max-tokens"; messages use the first long one; a bare word is positional
  std::string value;  // placeholder in --help; empty for a switch, which is given the value "1"
  std::string group;  // heading in --help
  std::string help;
  std::function<void(const Given&)> apply;  // throws UsageError for a value that cannot be used
  bool required = false;
  int values = 1;  // how many follow the flag; `apply` gets them one after the other
};

/// A verb's usage line, summary and flags.
struct VerbFlags {
  std::string name;
  std::string usage;    // after "sluice "
  std::string summary;  // one line
  std::vector<Flag> flags;
};

/// Declares -m, the model to load (find_model.h). `model` outlives the flags.
void add_model(std::vector<Flag>& flags, std::optional<std::string>& model);

/// Declares the common settings of the table (settings.h). `values` receives those that were given and outlives the
/// flags.
void add_settings(std::vector<Flag>& flags, FlagValues& values);

/// Parses what follows the verb and applies it. If a flag is given twice, the last one counts. Throws UsageError with
/// one line, and the nearest flag if one is unknown. Returns false if --help was asked for.
bool parse_flags(const VerbFlags& verb, std::vector<std::string> arguments);

/// --help: usage, then the flags by group.
std::string help_text(const VerbFlags& verb);

/// Which flags a Markdown table has: the verb's own, or the common settings.
enum class Tables : unsigned char { own, settings };

/// The flags as Markdown tables: docs/usage.md.
std::string help_markdown(const VerbFlags& verb, Tables tables);

/// The table of docs/environment.md.
std::string environment_markdown();

}  // namespace sluice::tools
