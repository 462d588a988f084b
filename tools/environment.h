// The environment as a value, so that what reads it can be tested.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace sluice::tools {

/// Variable names and values.
using Environment = std::map<std::string, std::string, std::less<>>;

/// The environment of this process.
Environment process_environment();

/// The value of a variable, or empty if it is not set. A variable set to nothing counts as not set.
std::string_view get(const Environment& environment, std::string_view name);

}  // namespace sluice::tools
