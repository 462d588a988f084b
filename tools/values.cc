#include "values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"

namespace sluice::tools {

int parse_int(const Given& given, int lowest, int highest) {
  const std::optional<int> value = whole<int>(given.text);
  if (!value || *value < lowest || *value > highest) {
    fail_usage("{}: '{}' is not a whole number from {} to {}", given.source, given.text, lowest, highest);
  }
  return *value;
}

float parse_number(const Given& given) {
  const std::optional<float> value = whole<float>(given.text);
  if (!value) fail_usage("{}: '{}' is not a number", given.source, given.text);
  return *value;
}

double parse_share(const Given& given) {
  const std::optional<double> value = whole<double>(given.text);
  if (!value || !(*value >= 0 && *value <= 1)) {
    fail_usage("{}: '{}' is not a number from 0 to 1", given.source, given.text);
  }
  return *value;
}

std::uint64_t parse_seed(const Given& given) {
  const std::optional<std::uint64_t> value = whole<std::uint64_t>(given.text);
  if (!value) fail_usage("{}: '{}' is not a whole number of 64 bits", given.source, given.text);
  return *value;
}

bool parse_switch(const Given& given) {
  constexpr std::array<std::string_view, 4> kOn{"1", "on", "true", "yes"};
  constexpr std::array<std::string_view, 4> kOff{"0", "off", "false", "no"};
  if (std::find(kOn.begin(), kOn.end(), given.text) != kOn.end()) return true;
  if (std::find(kOff.begin(), kOff.end(), given.text) != kOff.end()) return false;
  fail_usage("{}: '{}' is not a switch; write 1 or 0", given.source, given.text);
}

std::size_t parse_choice(const Given& given, std::span<const std::string_view> choices) {
  const auto found = std::find(choices.begin(), choices.end(), given.text);
  if (found == choices.end()) {
    fail_usage("{}: '{}' is unknown; choose one of {}", given.source, given.text, fmt::join(choices, ", "));
  }
  return static_cast<std::size_t>(found - choices.begin());
}

std::vector<Given> parse_list(const Given& given) {
  std::vector<Given> items;
  for (std::string_view rest = given.text;;) {
    const std::string_view item = rest.substr(0, rest.find(','));
    items.push_back({item, given.source});
    if (item.size() == rest.size()) return items;
    rest.remove_prefix(item.size() + 1);
  }
}

std::filesystem::path parse_path(const Given& given) {
  if (given.text.empty()) fail_usage("{}: expects the name of a file", given.source);
  return given.text;
}

}  // namespace sluice::tools
