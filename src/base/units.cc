#include "base/units.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace sluice {
namespace {

/// The factor of a unit suffix in lower case ("", "k", "kib", "kb", ...), or 0 if it is none.
double unit_factor(std::string_view suffix) {
  if (suffix.empty() || suffix == "b") return 1;
  constexpr std::string_view kPrefixes = "kmgt";
  const auto power = kPrefixes.find(suffix.front());
  if (power == std::string_view::npos) return 0;
  const std::string_view rest = suffix.substr(1);
  const double base = rest == "b" ? 1000.0 : 1024.0;
  if (!rest.empty() && rest != "b" && rest != "ib") return 0;
  return std::pow(base, static_cast<double>(power + 1));
}

}  // namespace

std::uint64_t parse_size(std::string_view text, std::string_view what) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string suffix;
  for (const char* at = end; at != text.data() + text.size(); ++at) {
    if (*at != ' ') suffix += static_cast<char>(std::tolower(static_cast<unsigned char>(*at)));
  }
  const double bytes = error == std::errc{} ? number * unit_factor(suffix) : -1;
  constexpr double kLargest = 1e18;  // far beyond any memory, and exact enough to convert
  if (!(bytes >= 1 && bytes <= kLargest)) {
    fail_usage("{}: '{}' is not a size; write for example 6GiB, 200MiB or 12GB", what, text);
  }
  return static_cast<std::uint64_t>(std::llround(bytes));
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {  // the bounds are those at which rounding adds a digit
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string format_rate(double bytes_per_second) {
  return format_bytes(static_cast<std::uint64_t>(std::llround(std::max(0.0, bytes_per_second)))) + "/s";
}

}  // namespace sluice
