#include "verbs.h"

#include <fmt/core.h>

#include <array>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "flags.h"
#include "settings.h"
#include "version.h"

namespace sluice::tools {
namespace {

constexpr int kRunTimeFailure = 1;
constexpr int kUsageFailure = 2;

constexpr auto kVerbs = std::to_array<Verb>({
    {"run", "write text: continue a prompt, or answer it in chat form",
     "run [-m MODEL] [-p TEXT | -f FILE | -p -] [-n N] [flags]", declare_run},
    {"logits", "compute the logits of given tokens and write them to a file",
     "logits [-m MODEL] --tokens 1,2,3 [--prefill P] -o FILE.safetensors [flags]", declare_logits},
    {"tokenize", "show the tokens of a text", "tokenize [-m MODEL] TEXT [flags]", declare_tokenize},
    {"inspect", "show what is in a checkpoint and what it will need", "inspect [-m MODEL] [flags]", declare_inspect},
    {"bench", "measure prefill and decode, and how close they come to the bounds", "bench [-m MODEL] [flags]",
     declare_bench},
    {"plan", "measure this machine and say how fast a model can go on it", "plan [-m MODEL] [--trace FILE] [flags]",
     declare_plan},
    {"synth", "write a checkpoint of a real model's shape with random weights", "synth --like NAME DST [flags]",
     declare_synth},
    {"pack", "rewrite a checkpoint so that each expert is one contiguous record", "pack SRC DST [flags]", declare_pack},
    {"simulate", "replay routes through caches of any size: hit rates, and the speed they allow",
     "simulate TRACE|gen:NAME [flags]", declare_simulate},
});

std::string program_help() {
  std::string text =
      "usage: sluice VERB [flags]\n\n"
      "Runs Mixture-of-Experts language models that are larger than memory: the routed experts stay on the disk and\n"
      "are read on demand.\n\nVerbs:\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  {:10}{}\n", verb.name, verb.summary);
  text +=
      "\nOther:\n"
      "  --version   version, commit, compiler, instruction set, liburing, kernel\n"
      "  --help      this text; sluice VERB --help shows the flags of a verb\n\n"
      "MODEL is a directory with config.json, or org/name in the Hugging Face cache; without -m the embedded model\n"
      "is used. Try: sluice run -p \"Name a book by Jules Verne.\"\n";
  return text;
}

const Verb& find_verb(std::string_view name) {
  std::vector<std::string_view> known{"--help", "--version"};
  for (const Verb& verb : kVerbs) {
    if (verb.name == name) return verb;
    known.push_back(verb.name);
  }
  fail_usage("unknown verb '{}'; did you mean {}? See sluice --help", name, nearest(name, known));
}

int dispatch(std::span<const char* const> arguments, const Environment& environment) {
  if (arguments.empty()) fail_usage("no verb given; see sluice --help, or just try: sluice run");
  const std::string_view first = arguments.front();
  if (first == "--help" || first == "-h" || first == "help") {
    fmt::print("{}", program_help());
    return 0;
  }
  if (first == "--version") {
    fmt::print("{}", version_text(environment));
    return 0;
  }
  const Verb& verb = find_verb(first);
  Action action;
  const VerbFlags flags = flags_of(verb, action);
  const auto rest = arguments.subspan(1);
  if (!parse_flags(flags, {rest.begin(), rest.end()})) {
    fmt::print("{}", help_text(flags));
    return 0;
  }
  check_environment(environment);
  return action(environment);
}

/// Arguments and file contents end up in messages; they must not reach the terminal's control sequences. A message
/// with a table has line breaks of its own.
void print_error(std::string_view message) {
  std::string line = "sluice: ";
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n') || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  fmt::print(stderr, "{}\n", line);
}

/// What was printed may still wait in a buffer; a full disk shows only when it leaves.
void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) fail("standard output: writing failed");
}

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

VerbFlags flags_of(const Verb& verb, Action& action) {
  VerbFlags result{std::string(verb.name), std::string(verb.usage), std::string(verb.summary), {}};
  action = verb.declare(result.flags);
  return result;
}

int run_program(std::span<const char* const> arguments, const Environment& environment) {
  try {
    const int code = dispatch(arguments, environment);
    flush_output();
    return code;
  } catch (const UsageError& error) {
    print_error(error.what());
    return kUsageFailure;
  } catch (const std::bad_alloc&) {
    print_error("out of memory; a smaller --ctx-size, --cache-slots or --prefill-chunk needs less");
    return kRunTimeFailure;
  } catch (const std::exception& error) {
    print_error(error.what());
    return kRunTimeFailure;
  }
}

}  // namespace sluice::tools
