// What a container or service manager allows this process: limits of Linux control groups, version 1 and 2.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace sluice {

/// The directories whose limits bind a process for `controller` ("cpu", "memory"), innermost first; a limit may stand
/// in any of them. `membership` is the text of /proc/self/cgroup, `mount` where the hierarchies are mounted. Paths
/// that cannot be seen from here, as in a container, are left out; the root of the mount is then the container's own.
std::vector<std::filesystem::path> cgroup_directories(std::string_view controller, std::string_view membership,
                                                      const std::filesystem::path& mount);

/// CPUs' worth of time that the directories allow, the smallest quota of all; nothing if there is no limit.
std::optional<double> cgroup_cpu_quota(const std::vector<std::filesystem::path>& directories);

/// The quota of this process.
std::optional<double> cgroup_cpu_quota();

}  // namespace sluice
