// The verbs of the program. Each declares its flags and says what to do once they are parsed.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "environment.h"
#include "flags.h"

namespace sluice::tools {

/// Carries out a verb after its flags were parsed; returns the exit code.
using Action = std::function<int(const Environment&)>;

Action declare_run(std::vector<Flag>& flags);
Action declare_logits(std::vector<Flag>& flags);
Action declare_tokenize(std::vector<Flag>& flags);
Action declare_inspect(std::vector<Flag>& flags);
Action declare_bench(std::vector<Flag>& flags);
Action declare_plan(std::vector<Flag>& flags);
Action declare_synth(std::vector<Flag>& flags);
Action declare_pack(std::vector<Flag>& flags);
Action declare_simulate(std::vector<Flag>& flags);

struct Verb {
  std::string_view name;
  std::string_view summary;
  std::string_view usage;
  Action (*declare)(std::vector<Flag>&);
};

std::span<const Verb> verbs();

/// The flags of a verb with what describes them; `action` receives what to do after parsing.
VerbFlags flags_of(const Verb& verb, Action& action);

/// The whole program, from arguments without the program's name to the exit code. Prints results to stdout and
/// everything else to stderr. Throws nothing.
int run_program(std::span<const char* const> arguments, const Environment& environment);

}  // namespace sluice::tools
