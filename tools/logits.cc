// sluice logits: a teacher-forced pass over given tokens, its logits written to a safetensors file.
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "find_model.h"
#include "interrupt.h"
#include "load_model.h"
#include "output_file.h"
#include "report.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct LogitsOptions {
  std::optional<std::string> model;
  std::vector<int> tokens;
  std::optional<int> prefill;
  std::filesystem::path output;
  FlagValues settings;
};

std::vector<int> parse_tokens(const Given& given) {
  std::vector<int> ids;
  for (const Given& id : parse_list(given)) ids.push_back(parse_int(id, 0, std::numeric_limits<int>::max()));
  return ids;
}

void check_tokens(std::span<const int> tokens, const model::ModelInfo& info) {
  for (const int id : tokens) {
    if (id >= info.vocabulary) {
      fail("--tokens: {} is not a token of this model; its vocabulary has ids 0 to {}", id, info.vocabulary - 1);
    }
  }
  if (tokens.size() > static_cast<std::size_t>(info.context)) {
    fail("--tokens: {} tokens do not fit into a context of {}; raise --ctx-size", tokens.size(), info.context);
  }
}

/// The header of a file with the single tensor `logits` [rows, columns], length bytes included. Padded so that the
/// data starts at a multiple of 8, which lets readers map it in place.
std::string logits_header(std::size_t rows, std::size_t columns) {
  std::string json = fmt::format(R"({{"logits":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,{}]}}}})", rows,
                                 columns, rows * columns * sizeof(float));
  json.resize(round_up(json.size(), 8), ' ');
  std::string header(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) header[i] = static_cast<char>((json.size() >> (8 * i)) & 0xff);
  return header + json;
}

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

int logits(const LogitsOptions& options, const Environment& environment) {
  const std::span<const int> tokens = options.tokens;
  const int count = static_cast<int>(tokens.size());
  const int prefill = options.prefill.value_or(count);
  if (prefill < 0 || prefill > count) {
    fail_usage("--prefill: {} of {} tokens; expected 0 to {}", prefill, count, count);
  }
  Settings settings = resolve_settings(options.settings, environment);
  const ModelChoice choice = find_model(options.model, environment, program_path());
  check_writable(options.output);
  check_output_files(settings);
  const auto model = load_model(choice.directory, settings, environment);
  const model::ModelInfo& info = model->info();
  check_tokens(tokens, info);
  model::RouteRecorder routes(*model, settings.route_trace);

  const InterruptGuard interrupt;
  OutputFile file(options.output);
  file.write(logits_header(tokens.size(), static_cast<std::size_t>(info.vocabulary)));
  model::Session session = model->new_session();
  const auto write_row = [&](int, int, std::span<float> row) { file.write(std::as_bytes(row)); };
  model::GenerateResult result;
  result.prompt_tokens = prefill;
  result.decode_steps = count - prefill;
  for (int done = 0; done < count;) {
    const bool in_prompt = done < prefill;
    const int rows = in_prompt ? std::min(prefill - done, info.prefill_chunk) : 1;
    const model::SequenceStep step{&session,
                                   tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(rows)),
                                   model::LogitsWanted::all, in_prompt};
    const auto start = Clock::now();
    model->forward(std::span(&step, 1), write_row);
    (in_prompt ? result.prefill_seconds : result.decode_seconds) +=
        std::chrono::duration<double>(Clock::now() - start).count();
    done += rows;
    if (interrupt.requested()) return interrupt.exit_code();
  }
  file.commit();
  report(*model, result, settings, routes);
  return 0;
}

}  // namespace

Action declare_logits(std::vector<Flag>& flags) {
  const auto options = std::make_shared<LogitsOptions>();
  add_model(flags, options->model);
  flags.push_back({"--tokens", "IDS", "Input", "token ids, separated by commas",
                   [options](const Given& given) { options->tokens = parse_tokens(given); }, true});
  flags.push_back(
      {"--prefill", "P", "Input", "how many of them are one prompt; the rest go one by one (default: all)",
       [options](const Given& given) { options->prefill = parse_int(given, 0, std::numeric_limits<int>::max()); }});
  flags.push_back({"-o,--output", "FILE", "Output", "safetensors file with the tensor logits, f32 [tokens, vocabulary]",
                   [options](const Given& given) { options->output = parse_path(given); }, true});
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return logits(*options, environment); };
}

}  // namespace sluice::tools
