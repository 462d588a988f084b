// The end of a run: the closing lines for everyone, full statistics for those who ask.
#pragma once

#include <string>

#include "model/generate.h"
#include "model/model.h"
#include "model/statistics.h"
#include "settings.h"

namespace sluice::tools {

/// Up to four lines: speed, what the slots held and what was read from disk, what bounds the speed, and what other
/// caches would have held.
std::string closing_text(const model::RunStatistics& statistics);

/// Throws Error now if --stats-json, --route-trace or --heat was given and cannot be written later.
void check_output_files(const Settings& settings);

/// Writes --heat, gathers statistics, writes --stats-json, and prints to stderr: the full text with --stats, else the
/// closing lines unless --quiet. Throws Error if the file cannot be written.
void report(model::Model& model, const model::GenerateResult& generation, const Settings& settings,
            model::RouteRecorder& routes);

}  // namespace sluice::tools
