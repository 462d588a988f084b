#include "cache/available_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

#include "base/cgroup.h"
#include "base/error.h"
#include "base/units.h"

namespace sluice::cache {
namespace {

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  text = trim(text);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Calls `visit` for every line, without its newline.
template <typename Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    visit(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

/// The number after `key` and a space in a file of "key value" lines.
std::optional<std::uint64_t> value_of(std::string_view text, std::string_view key) {
  std::optional<std::uint64_t> value;
  for_each_line(text, [&](std::string_view line) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      value = parse_number(line.substr(key.size()));
    }
  });
  return value;
}

/// The beginning of a file of the kernel; nothing where there is none. All that are read here are far shorter.
std::optional<std::string> read_text(const std::filesystem::path& path) {
  constexpr std::size_t kLongest = 64 * kKiB;
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::string text(kLongest, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

/// Bytes of the line "key number kB".
std::optional<std::uint64_t> parse_kib_line(std::string_view text, std::string_view key) {
  std::optional<std::uint64_t> bytes;
  for_each_line(text, [&](std::string_view line) {
    constexpr std::string_view kUnit = "kB";
    if (!line.starts_with(key) || !line.ends_with(kUnit)) return;
    line.remove_prefix(key.size());
    line.remove_suffix(kUnit.size());
    if (const auto kib = parse_number(line)) bytes = *kib * kKiB;
  });
  return bytes;
}

/// Lowers `available` to what the group at `directory` has left, if these files say so.
void apply_group_limit(const std::filesystem::path& directory, const char* limit_file, const char* usage_file,
                       AvailableMemory& available) {
  const auto limit = parse_cgroup_limit(read_text(directory / limit_file).value_or(""));
  const auto usage = parse_number(read_text(directory / usage_file).value_or(""));
  if (!limit || !usage) return;
  const std::uint64_t file_cache = parse_file_cache(read_text(directory / "memory.stat").value_or(""));
  const std::uint64_t held = *usage - std::min(*usage, file_cache);
  const std::uint64_t left = *limit - std::min(*limit, held);
  if (left < available.bytes) available = {left, (directory / limit_file).string(), true};
}

}  // namespace

std::optional<std::uint64_t> parse_mem_available(std::string_view meminfo) {
  return parse_kib_line(meminfo, "MemAvailable:");
}

std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text) {
  // Version 1 says unlimited by the largest page-aligned 63-bit number; no machine has 2^60 bytes.
  constexpr std::uint64_t kUnlimited = 1ULL << 60;
  const auto bytes = parse_number(text);  // "max" is no number
  return bytes && *bytes < kUnlimited ? bytes : std::nullopt;
}

std::uint64_t parse_file_cache(std::string_view memory_stat) {
  // In version 1 the plain names leave out child groups, and total_ includes them; version 2 always includes them.
  const auto sum = [memory_stat](std::string_view inactive, std::string_view active) -> std::optional<std::uint64_t> {
    const auto a = value_of(memory_stat, inactive);
    const auto b = value_of(memory_stat, active);
    return a && b ? std::optional(*a + *b) : std::nullopt;
  };
  return sum("total_inactive_file", "total_active_file").value_or(sum("inactive_file", "active_file").value_or(0));
}

AvailableMemory available_memory(const std::filesystem::path& root) {
  const std::optional<std::uint64_t> machine = parse_mem_available(read_text(root / "proc/meminfo").value_or(""));
  if (!machine) fail("/proc/meminfo: no MemAvailable line, so free memory is unknown; use --memory or --cache-slots");
  AvailableMemory available{*machine, "MemAvailable", false};
  const std::string membership = read_text(root / "proc/self/cgroup").value_or("");
  for (const auto& directory : cgroup_directories("memory", membership, root / "sys/fs/cgroup")) {
    // Version 2: above `high` the kernel slows the group down to reclaim, so that is a limit too.
    apply_group_limit(directory, "memory.max", "memory.current", available);
    apply_group_limit(directory, "memory.high", "memory.current", available);
    apply_group_limit(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", available);  // version 1
  }
  return available;
}

std::optional<std::uint64_t> parse_stall_microseconds(std::string_view pressure) {
  std::optional<std::uint64_t> total;
  for_each_line(pressure, [&](std::string_view line) {
    constexpr std::string_view kKey = " total=";
    const std::size_t at = line.rfind(kKey);
    if (line.starts_with("some ") && at != std::string_view::npos) total = parse_number(line.substr(at + kKey.size()));
  });
  return total;
}

std::optional<std::uint64_t> parse_resident_pages(std::string_view statm) {
  const std::size_t begin = statm.find(' ');
  if (begin == std::string_view::npos) return std::nullopt;
  statm.remove_prefix(begin + 1);
  return parse_number(statm.substr(0, statm.find(' ')));
}

std::optional<std::uint64_t> parse_huge_page_bytes(std::string_view smaps_rollup) {
  return parse_kib_line(smaps_rollup, "AnonHugePages:");
}

MemoryPressure read_memory_pressure(const std::filesystem::path& root) {
  MemoryPressure pressure;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  pressure.major_faults = static_cast<std::uint64_t>(usage.ru_majflt);
  pressure.available = available_memory(root);
  pressure.resident_bytes = parse_resident_pages(read_text(root / "proc/self/statm").value_or("")).value_or(0) *
                            static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::string membership = read_text(root / "proc/self/cgroup").value_or("");
  for (const auto& directory : cgroup_directories("memory", membership, root / "sys/fs/cgroup")) {
    pressure.stall_microseconds = parse_stall_microseconds(read_text(directory / "memory.pressure").value_or(""));
    if (pressure.stall_microseconds) return pressure;
  }
  pressure.stall_microseconds = parse_stall_microseconds(read_text(root / "proc/pressure/memory").value_or(""));
  return pressure;
}

std::optional<std::uint64_t> huge_page_bytes() {
  return parse_huge_page_bytes(read_text("/proc/self/smaps_rollup").value_or(""));
}

}  // namespace sluice::cache
