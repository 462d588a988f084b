// Text that a verb works on, from wherever the user has it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::tools {

/// The text of `argument` ("-" reads standard input), which messages call `argument_name`, or of the file named by
/// `file`. Empty if neither is set; both is a UsageError. One newline at the end of a file or of standard input is
/// dropped, because editors and echo add it. Throws Error naming what cannot be read or is not UTF-8.
std::optional<std::string> read_prompt(const std::optional<std::string>& argument, std::string_view argument_name,
                                       const std::optional<std::string>& file);

}  // namespace sluice::tools
