#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMount = "/sys/fs/cgroup";

/// Removes and returns what stands before the first `separator`, or everything.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view head = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return head;
}

bool list_contains(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    if (take_until(list, ',') == name) return true;
  }
  return false;
}

/// Appends base/path and its parents down to `base` itself.
void append_directories(const fs::path& base, std::string_view path, std::vector<fs::path>& directories) {
  fs::path relative = fs::path(path).relative_path().lexically_normal();
  // A group outside of the namespace of this process reads "/../x": what can be seen of it is the root.
  if (relative == "." || (!relative.empty() && *relative.begin() == "..")) relative.clear();
  for (;;) {
    std::error_code ignored;
    const fs::path directory = relative.empty() ? base : base / relative;
    if (fs::is_directory(directory, ignored)) directories.push_back(directory);
    if (relative.empty()) return;
    relative = relative.parent_path();
  }
}

/// The whole text, or nothing where there is no such file.
std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A positive number at the start of the text; nothing for "max", "-1" and an empty text, which mean no limit.
std::optional<std::uint64_t> positive_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number == 0) return std::nullopt;
  return number;
}

}  // namespace

std::vector<fs::path> cgroup_directories(std::string_view controller, std::string_view membership,
                                         const fs::path& mount) {
  std::vector<fs::path> directories;
  while (!membership.empty()) {
    std::string_view line = take_until(membership, '\n');  // hierarchy:controllers:path, version 2 is "0::path"
    const std::string_view hierarchy = take_until(line, ':');
    const std::string_view controllers = take_until(line, ':');
    if (hierarchy == "0" && controllers.empty()) {
      append_directories(mount, line, directories);
      append_directories(mount / "unified", line, directories);  // beside version 1
    } else if (list_contains(controllers, controller)) {
      append_directories(mount / controller, line, directories);
    }
  }
  return directories;
}

std::optional<double> cgroup_cpu_quota(const std::vector<fs::path>& directories) {
  std::optional<double> smallest;
  const auto consider = [&](std::string_view quota, std::string_view period) {  // both in microseconds
    const auto allowed = positive_number(quota);
    const auto every = positive_number(period);
    if (!allowed || !every) return;
    const double cpus = static_cast<double>(*allowed) / static_cast<double>(*every);
    smallest = std::min(cpus, smallest.value_or(cpus));
  };
  for (const fs::path& directory : directories) {
    const std::string text = read_text(directory / "cpu.max");
    std::string_view period = text;
    const std::string_view quota = take_until(period, ' ');
    consider(quota, period);
    consider(read_text(directory / "cpu.cfs_quota_us"), read_text(directory / "cpu.cfs_period_us"));
  }
  return smallest;
}

std::optional<double> cgroup_cpu_quota() {
  return cgroup_cpu_quota(cgroup_directories("cpu", read_text("/proc/self/cgroup"), kMount));
}

}  // namespace sluice
