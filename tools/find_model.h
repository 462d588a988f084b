// Which directory -m means.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "environment.h"

namespace sluice::tools {

struct ModelChoice {
  std::filesystem::path directory;  // holds config.json
  bool embedded = false;            // the model that comes with the program
};

/// `name` is a directory with config.json, or org/name in the Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub,
/// $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub). Without a name: the embedded model, looked for beside
/// `program` (../share/sluice/models) and in the source tree. Throws Error saying what was looked for and where.
ModelChoice find_model(const std::optional<std::string>& name, const Environment& environment,
                       const std::filesystem::path& program);

/// The path of this program.
std::filesystem::path program_path();

}  // namespace sluice::tools
