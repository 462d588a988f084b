#include "model/stop_tokens.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "model/config.h"
#include "model/json_file.h"

namespace sluice::model {
namespace {

using nlohmann::json;

std::optional<Config> load_if_present(const std::filesystem::path& path) {
  if (!file_exists(path)) return std::nullopt;
  return Config::parse(read_text_file(path, kMaxConfigBytes), path.string());
}

/// Appends `eos_token_id`: one id or a list.
void add_ids(const Config& config, std::vector<int>& ids) {
  constexpr const char* kKey = "eos_token_id";
  if (!config.has(kKey)) return;
  const auto add = [&](const json& id) {
    // A negative id stands for none in some files.
    if (id.is_number_integer() && !id.is_number_unsigned()) return;
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<int>::max()) {
      config.refuse(kKey, "a token id or a list of token ids");
    }
    ids.push_back(id.get<int>());
  };
  const json& value = config.object().at(kKey);
  if (value.is_array()) {
    for (const json& id : value) add(id);
  } else {
    add(value);
  }
}

/// The id of `eos_token`: its text, or an object with the text as `content`.
std::optional<int> named_token(const Config& config, const Tokenizer& tokenizer) {
  constexpr const char* kKey = "eos_token";
  if (!config.has(kKey)) return std::nullopt;
  const json& value = config.object().at(kKey);
  const json content = value.is_object() ? value.value("content", json()) : value;
  if (!content.is_string()) config.refuse(kKey, "a string, or an object with a string as its content");
  const std::optional<int> id = tokenizer.token_id(content.get_ref<const std::string&>());
  if (!id) config.refuse(kKey, "a token of the vocabulary");
  return id;
}

}  // namespace

std::vector<int> load_stop_tokens(const std::filesystem::path& model_directory, const Tokenizer* tokenizer) {
  std::vector<int> ids;
  for (const char* file : {"generation_config.json", "config.json"}) {
    if (const std::optional<Config> config = load_if_present(model_directory / file)) add_ids(*config, ids);
  }
  if (tokenizer != nullptr) {
    if (const std::optional<Config> config = load_if_present(model_directory / "tokenizer_config.json")) {
      if (const std::optional<int> id = named_token(*config, *tokenizer)) ids.push_back(*id);
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

GenerationDefaults load_generation_defaults(const std::filesystem::path& model_directory) {
  GenerationDefaults defaults;
  const std::optional<Config> config = load_if_present(model_directory / "generation_config.json");
  if (!config) return defaults;
  const auto number = [&](const char* key, double low, double high) -> std::optional<float> {
    if (!config->has(key)) return std::nullopt;
    return static_cast<float>(config->number(key, low, high));
  };
  constexpr double kLargest = std::numeric_limits<float>::max();
  constexpr double kSmallest = std::numeric_limits<float>::min();  // above zero
  if (config->has("do_sample")) defaults.do_sample = config->boolean_or("do_sample", false);
  defaults.temperature = number("temperature", 0, kLargest);
  defaults.top_p = number("top_p", kSmallest, 1);
  defaults.min_p = number("min_p", 0, 1);
  defaults.repetition_penalty = number("repetition_penalty", kSmallest, kLargest);
  // -1 is another spelling of "all tokens".
  if (config->has("top_k")) {
    defaults.top_k = std::max(0, config->integer("top_k", -1, std::numeric_limits<int>::max()));
  }
  return defaults;
}

}  // namespace sluice::model
