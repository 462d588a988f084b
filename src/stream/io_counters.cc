#include "stream/io_counters.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice::stream {
namespace {

/// The number of the line "name: number", or nothing.
std::optional<std::uint64_t> counter(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(name) || !line.substr(name.size()).starts_with(": ")) continue;
    const std::string_view digits = line.substr(name.size() + 2);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<ProcessIo> parse_process_io(std::string_view text) {
  const auto rchar = counter(text, "rchar");
  const auto syscr = counter(text, "syscr");
  const auto read_bytes = counter(text, "read_bytes");
  if (!rchar || !syscr || !read_bytes) return std::nullopt;
  return ProcessIo{*rchar, *syscr, *read_bytes};
}

std::optional<ProcessIo> read_process_io() {
  std::ifstream file("/proc/self/io");
  return parse_process_io(std::string(std::istreambuf_iterator<char>(file), {}));
}

}  // namespace sluice::stream
