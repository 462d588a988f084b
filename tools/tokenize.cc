// sluice tokenize: the tokens of a text.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "find_model.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/unicode.h"
#include "prompt.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

struct TokenizeOptions {
  std::optional<std::string> model;
  std::optional<std::string> text;
  std::optional<std::string> file;
  bool ids = false;
};

/// Token bytes in double quotes: text as it is, control characters and bytes that are no whole character escaped.
std::string quoted_bytes(std::string_view bytes) {
  std::string text = "\"";
  for (std::size_t at = 0; at < bytes.size();) {
    const model::Utf8Step step = model::utf8_step(bytes, at);
    const auto byte = static_cast<unsigned char>(bytes[at]);
    if (step.kind != model::Utf8Step::Kind::character || byte < 0x20 || byte == 0x7f) {
      text += byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : fmt::format("\\x{:02x}", byte);
      at += 1;
      continue;
    }
    if (byte == '"' || byte == '\\') text += '\\';
    text += bytes.substr(at, step.length);
    at += step.length;
  }
  return text + "\"";
}

int tokenize(const TokenizeOptions& options, const Environment& environment) {
  const std::optional<std::string> text = read_prompt(options.text, "TEXT", options.file);
  if (!text) fail_usage("tokenize: no text; give it as an argument, with -f FILE, or - for standard input");
  const ModelChoice choice = find_model(options.model, environment, program_path());
  const model::Tokenizer tokenizer = model::Tokenizer::load(choice.directory / "tokenizer.json");
  const std::vector<int> ids = tokenizer.encode(*text);
  if (options.ids) {
    fmt::print("{}\n", fmt::join(ids, ","));
    return 0;
  }
  for (const int id : ids) fmt::print("{:7}  {}\n", id, quoted_bytes(tokenizer.token_bytes(id)));
  return 0;
}

}  // namespace

Action declare_tokenize(std::vector<Flag>& flags) {
  const auto options = std::make_shared<TokenizeOptions>();
  flags.push_back({"TEXT", "", "Input", "the text, or - for standard input",
                   [options](const Given& given) { options->text = given.text; }});
  flags.push_back({"-f,--file", "FILE", "Input", "read the text from a file",
                   [options](const Given& given) { options->file = given.text; }});
  add_model(flags, options->model);
  flags.push_back({"--ids", "", "Output", "only the ids, on one line, as --tokens of logits takes them",
                   [options](const Given& given) { options->ids = parse_switch(given); }});
  return [options](const Environment& environment) { return tokenize(*options, environment); };
}

}  // namespace sluice::tools
