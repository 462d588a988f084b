// What a model directory says about generation: where it ends, and how its authors would sample.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace sluice::model {

/// The ids that end a generation, sorted, each once: `eos_token_id` of generation_config.json and of config.json, and
/// `eos_token` of tokenizer_config.json if there is a `tokenizer` (may be null) to look it up. Files and keys may be
/// absent. Throws Error naming the file and the key if one is broken.
std::vector<int> load_stop_tokens(const std::filesystem::path& model_directory, const Tokenizer* tokenizer);

/// The sampling settings in generation_config.json; empty where the file says nothing.
struct GenerationDefaults {
  std::optional<bool> do_sample;  // false: greedy, whatever the temperature
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;  // 0: all tokens
};

/// Reads generation_config.json if there is one. Throws Error naming the file and the key if it is broken or a value is
/// out of its range.
GenerationDefaults load_generation_defaults(const std::filesystem::path& model_directory);

}  // namespace sluice::model
