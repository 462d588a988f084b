// What this build is and what it runs on.
#pragma once

#include <string>

#include "environment.h"

namespace sluice::tools {

/// The lines of --version. Throws UsageError if SLUICE_ISA names an instruction set that cannot be used.
std::string version_text(const Environment& environment);

}  // namespace sluice::tools
