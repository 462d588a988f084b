#include "sampling.h"

#include <fmt/core.h>

#include <limits>

namespace sluice::tools {
namespace {

constexpr const char* kGroup = "Sampling";

/// The first that is there of: the flag, the model's file, the default; and a record of which it was.
template <typename T>
T settle(const char* flag, const std::optional<T>& given, const std::optional<T>& from_file, T fallback,
         std::vector<model::SettingRecord>& records) {
  const T value = given.value_or(from_file.value_or(fallback));
  const std::string origin = given       ? fmt::format("flag --{}", flag)
                             : from_file ? std::string("generation_config.json")
                                         : std::string("default");
  records.push_back({record_name(flag), fmt::format("{}", value), origin});
  return value;
}

}  // namespace

void add_sampling(std::vector<Flag>& flags, SamplingOptions& options) {
  flags.push_back({"--temp,--temperature", "T", kGroup, "0: always the most probable token",
                   [&](const Given& given) { options.temperature = parse_number(given); }});
  flags.push_back({"--top-k", "K", kGroup, "keep the K most probable tokens; 0: all",
                   [&](const Given& given) { options.top_k = parse_int(given, 0, std::numeric_limits<int>::max()); }});
  flags.push_back({"--top-p", "P", kGroup, "keep the fewest tokens that have probability P together; 1: all",
                   [&](const Given& given) { options.top_p = parse_number(given); }});
  flags.push_back({"--min-p", "P", kGroup, "keep tokens with P times the highest probability; 0: all",
                   [&](const Given& given) { options.min_p = parse_number(given); }});
  flags.push_back({"--repeat-penalty", "X", kGroup, "above 1: tokens seen lately become less likely; 1: off",
                   [&](const Given& given) { options.repeat_penalty = parse_number(given); }});
  flags.push_back({"-s,--seed", "N", kGroup, "the same seed gives the same text (default: a new one each run)",
                   [&](const Given& given) {
                     // -1 is how users of llama.cpp ask for a random one.
                     if (given.text != "-1") options.seed = parse_seed(given);
                   }});
}

model::SamplingParams settle_sampling(const SamplingOptions& options, const model::GenerationDefaults& defaults,
                                      std::uint64_t random_seed, std::vector<model::SettingRecord>& records) {
  model::SamplingParams params;
  std::optional<float> file_temperature = defaults.temperature;
  if (defaults.do_sample) {
    file_temperature = *defaults.do_sample ? defaults.temperature.value_or(1.0F) : 0.0F;
  }
  params.temperature = settle("temp", options.temperature, file_temperature, params.temperature, records);
  const bool greedy = params.temperature == 0;
  const model::GenerationDefaults none;
  const model::GenerationDefaults& file = greedy ? none : defaults;
  params.top_k = settle("top-k", options.top_k, file.top_k, params.top_k, records);
  params.top_p = settle("top-p", options.top_p, file.top_p, params.top_p, records);
  params.min_p = settle("min-p", options.min_p, file.min_p, params.min_p, records);
  params.repeat_penalty =
      settle("repeat-penalty", options.repeat_penalty, file.repetition_penalty, params.repeat_penalty, records);
  params.seed = settle<std::uint64_t>("seed", options.seed, std::nullopt, random_seed, records);
  if (!options.seed) records.back().origin = "random";
  model::check(params);
  return params;
}

}  // namespace sluice::tools
