// "Did you mean ...?" for flags, verbs and environment variables.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sluice::tools {

/// "; did you mean 'X'?" with the candidate nearest to `word` by edit distance, or "" if none is close enough to be
/// a slip of the fingers.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace sluice::tools
