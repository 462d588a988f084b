// How much memory this process can still get: the machine's, or less if a control group says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::cache {

struct AvailableMemory {
  std::uint64_t bytes = 0;
  std::string origin;          // what set the bound: "MemAvailable", or the limit file of a control group
  bool limited_group = false;  // it is the latter
};

/// How hard it is to get memory, now. Counters only grow.
struct MemoryPressure {
  std::uint64_t major_faults = 0;                   // page faults of this process that waited for a disk
  std::optional<std::uint64_t> stall_microseconds;  // in which some task waited for memory; nothing if not told
  AvailableMemory available;
  std::uint64_t resident_bytes = 0;  // of this process
};

/// The least of MemAvailable and what every control group on the way to the root has left (version 2 and the memory
/// controller of version 1). File caches inside a group count as free: the kernel drops them before it refuses memory.
/// `root` stands for "/" in tests. Throws Error if the kernel tells nothing.
AvailableMemory available_memory(const std::filesystem::path& root = "/");

/// Major faults and resident bytes of this process, available_memory(), and the stall time of the innermost control
/// group that tells it (version 2), else of the machine. Takes under 0.1 ms. Throws as available_memory() does.
MemoryPressure read_memory_pressure(const std::filesystem::path& root = "/");

/// Bytes of this process that lie on transparent huge pages; nothing if the kernel does not tell.
std::optional<std::uint64_t> huge_page_bytes();

/// MemAvailable of /proc/meminfo in bytes.
std::optional<std::uint64_t> parse_mem_available(std::string_view meminfo);

/// A limit file: bytes, or nothing for "max" and for the huge number by which version 1 says unlimited.
std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text);

/// `total` of the "some" line of a PSI file (/proc/pressure/memory, memory.pressure).
std::optional<std::uint64_t> parse_stall_microseconds(std::string_view pressure);

/// Pages of a process in memory, from its /proc/PID/statm.
std::optional<std::uint64_t> parse_resident_pages(std::string_view statm);

/// AnonHugePages of /proc/PID/smaps_rollup in bytes.
std::optional<std::uint64_t> parse_huge_page_bytes(std::string_view smaps_rollup);

/// Bytes of file cache in a memory.stat of either version, child groups included.
std::uint64_t parse_file_cache(std::string_view memory_stat);

}  // namespace sluice::cache
