// Loading a model for a verb: progress, notices, and the settings as they turned out.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "environment.h"
#include "model/model.h"
#include "settings.h"

namespace sluice::tools {

/// Loads with progress on stderr, prints notices there unless quiet, and puts what was chosen at load (slots,
/// threads, context, I/O engine ...) into the records of `settings`.
std::unique_ptr<model::Model> load_model(const std::filesystem::path& directory, Settings& settings,
                                         const Environment& environment);

/// Slots per layer that the embedded model gets unless somebody says otherwise.
void use_embedded_slots(Settings& settings);

/// What was chosen for settings, by the name of their record.
using EffectiveSettings = std::vector<std::pair<std::string_view, std::string>>;

/// Puts the values into the records; where they came from stays.
void record_effective(Settings& settings, const EffectiveSettings& effective);

/// The value of --cache-type that means this type.
std::string cache_type_name(DType type);

}  // namespace sluice::tools
