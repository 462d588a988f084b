// sluice run: text in, text out.
#include <fmt/core.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "find_model.h"
#include "interrupt.h"
#include "load_model.h"
#include "model/chat_template.h"
#include "model/generate.h"
#include "model/stop_tokens.h"
#include "model/tokenizer/tokenizer.h"
#include "progress.h"
#include "prompt.h"
#include "report.h"
#include "sampling.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

/// A passage of a page; the same for every model, so that a forgotten -n ends soon on a slow disk too.
constexpr int kDefaultMaxTokens = 256;

constexpr std::string_view kEmbeddedChatPrompt = "Write a passage in the style of Charles Dickens.";
constexpr std::string_view kEmbeddedTextPrompt = "It was a cold evening, and";

struct RunOptions {
  std::optional<std::string> model;
  std::optional<std::string> prompt;
  std::optional<std::string> file;
  std::optional<std::string> system_prompt;
  std::optional<bool> chat;
  int max_tokens = kDefaultMaxTokens;
  SamplingOptions sampling;
  FlagValues settings;
};

/// The user's text, or nothing if the embedded model is to use its own idea of one.
std::optional<std::string> given_prompt(const RunOptions& options, bool embedded) {
  std::optional<std::string> text = read_prompt(options.prompt, "--prompt", options.file);
  if (!text && !embedded) fail_usage("no prompt; give one with -p TEXT, -f FILE, or -p - for standard input");
  return text;
}

std::string in_chat_form(const RunOptions& options, const ModelChoice& choice, const std::string& text) {
  std::vector<model::ChatMessage> messages;
  if (options.system_prompt) messages.push_back({"system", *options.system_prompt});
  messages.push_back({"user", text});
  return model::ChatTemplate::load(choice.directory).render(messages, true);
}

void write_text(std::string_view text) {
  // Flushed at once: whoever reads along sees every token when it is known.
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail("standard output: writing failed");
  }
}

int run(const RunOptions& options, const Environment& environment) {
  Settings settings = resolve_settings(options.settings, environment);
  const ModelChoice choice = find_model(options.model, environment, program_path());
  const bool chat = options.chat.value_or(choice.embedded);
  if (options.system_prompt && !chat) fail_usage("--system-prompt: only chat form has one; add --chat");
  check_output_files(settings);
  if (choice.embedded) use_embedded_slots(settings);

  const model::Tokenizer tokenizer = model::Tokenizer::load(choice.directory / "tokenizer.json");
  const std::optional<std::string> given = given_prompt(options, choice.embedded);
  const std::string text = given.value_or(std::string(chat ? kEmbeddedChatPrompt : kEmbeddedTextPrompt));
  const std::vector<int> prompt = tokenizer.encode(chat ? in_chat_form(options, choice, text) : text);
  const std::vector<int> stop_tokens = model::load_stop_tokens(choice.directory, &tokenizer);
  const model::SamplingParams sampling = settle_sampling(
      options.sampling, model::load_generation_defaults(choice.directory), std::random_device{}(), settings.records);

  const auto model = load_model(choice.directory, settings, environment);
  model::RouteRecorder routes(*model, settings.route_trace);
  if (!given && !settings.quiet) fmt::print(stderr, "prompt   {}\n", text);
  model::Session session = model->new_session();
  const InterruptGuard interrupt;
  const model::GenerateRequest request{prompt, options.max_tokens, sampling, stop_tokens, &interrupt.requested()};
  model::StreamDecoder decoder(tokenizer);
  Progress progress = progress_on_stderr("prompt", settings.quiet, environment, ProgressUnit::tokens);
  const auto on_prefill = [&](int done) {
    if (static_cast<std::size_t>(done) == prompt.size()) {
      progress.finish();
    } else {
      progress.update(static_cast<std::uint64_t>(done), prompt.size());
    }
  };
  const model::GenerateResult result = model::generate(
      *model, session, request, [&](int token) { write_text(decoder.push(token)); }, on_prefill);
  progress.finish();  // of a prompt that was not evaluated to its end
  const bool failed = result.reason == model::FinishReason::failed;
  if (!failed || result.generated_tokens > 0) write_text(decoder.finish() + "\n");
  report(*model, result, settings, routes);
  if (failed) fail("{}", result.error);
  return result.reason == model::FinishReason::cancelled ? interrupt.exit_code() : 0;
}

}  // namespace

Action declare_run(std::vector<Flag>& flags) {
  const auto options = std::make_shared<RunOptions>();
  add_model(flags, options->model);
  flags.push_back({"-p,--prompt", "TEXT", "Input", "the prompt, or - for standard input",
                   [options](const Given& given) { options->prompt = given.text; }});
  flags.push_back({"-f,--file", "FILE", "Input", "read the prompt from a file",
                   [options](const Given& given) { options->file = given.text; }});
  flags.push_back({"--chat", "", "Input", "put the prompt into chat form (default for the embedded model)",
                   [options](const Given& given) { options->chat = parse_switch(given); }});
  flags.push_back({"--no-chat", "", "Input", "continue the prompt as raw text (default with -m)",
                   [options](const Given& given) { options->chat = !parse_switch(given); }});
  flags.push_back({"-sys,--system-prompt", "TEXT", "Input", "what the system says first in chat form",
                   [options](const Given& given) { options->system_prompt = given.text; }});
  flags.push_back(
      {"-n,--max-tokens,--n-predict,--predict", "N", "Output",
       fmt::format("tokens to write at most; -1: until the text or the context ends (default: {})", kDefaultMaxTokens),
       [options](const Given& given) { options->max_tokens = parse_int(given, -1, std::numeric_limits<int>::max()); }});
  add_sampling(flags, options->sampling);
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return run(*options, environment); };
}

}  // namespace sluice::tools
