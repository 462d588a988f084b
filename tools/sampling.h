// Sampling flags, and how they meet the defaults of the model.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "flags.h"
#include "model/sampler.h"
#include "model/statistics.h"
#include "model/stop_tokens.h"

namespace sluice::tools {

/// What was given on the command line; empty: not given.
struct SamplingOptions {
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
};

/// Declares --temp, --top-k, --top-p, --min-p, --repeat-penalty and --seed. `options` outlives the flags.
void add_sampling(std::vector<Flag>& flags, SamplingOptions& options);

/// A flag wins over generation_config.json, that over "always the most probable token". Temperature 0 means the most
/// probable token whatever the file says, without repetition penalty unless the flag asks for it. `random_seed` is
/// used if no seed was given. Appends one record per parameter to `records`. Throws UsageError naming a flag that is
/// out of its range.
model::SamplingParams settle_sampling(const SamplingOptions& options, const model::GenerationDefaults& defaults,
                                      std::uint64_t random_seed, std::vector<model::SettingRecord>& records);

}  // namespace sluice::tools
