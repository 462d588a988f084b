// Loading a model for a verb: progress, notices, and the settings as they turned out.
#pragma once

#include <filesystem>
#include <memory>

#include "environment.h"
#include "model/model.h"
#include "settings.h"

namespace sluice::tools {

/// Loads with progress on stderr, prints notices there unless quiet, and puts what was chosen at load (slots,
/// threads, context, I/O engine ...) into the records of `settings`.
std::unique_ptr<model::Model> load_model(const std::filesystem::path& directory, Settings& settings,
                                         const Environment& environment);

}  // namespace sluice::tools
