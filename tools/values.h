// Values of flags and variables as people write them. Each function throws UsageError naming where the value came
// from, what it was and what was expected.
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace sluice::tools {

/// A value that was given, and by what name to call it in a message ("--threads", "SLUICE_THREADS").
struct Given {
  std::string_view text;
  std::string_view source;
};

/// The number that is the whole of `text`, or nothing.
template <typename T>
std::optional<T> whole(std::string_view text) {
  T value{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return error == std::errc{} && end == last ? std::optional(value) : std::nullopt;
}

/// A whole number in [lowest, highest].
int parse_int(const Given& given, int lowest, int highest);

float parse_number(const Given& given);

/// A number from 0 to 1.
double parse_share(const Given& given);

/// A whole number of 64 bits.
std::uint64_t parse_seed(const Given& given);

/// on/off, 1/0, true/false, yes/no.
bool parse_switch(const Given& given);

/// One of `choices`; returns its index.
std::size_t parse_choice(const Given& given, std::span<const std::string_view> choices);

/// The items of a list separated by commas.
std::vector<Given> parse_list(const Given& given);

/// A path, not empty.
std::filesystem::path parse_path(const Given& given);

}  // namespace sluice::tools
