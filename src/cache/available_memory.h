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
  std::string origin;  // what set the bound: "MemAvailable", or the limit file of a control group
};

/// The least of MemAvailable and what every control group on the way to the root has left (version 2 and the memory
/// controller of version 1). File caches inside a group count as free: the kernel drops them before it refuses memory.
/// `root` stands for "/" in tests. Throws Error if the kernel tells nothing.
AvailableMemory available_memory(const std::filesystem::path& root = "/");

/// MemAvailable of /proc/meminfo in bytes.
std::optional<std::uint64_t> parse_mem_available(std::string_view meminfo);

/// A limit file: bytes, or nothing for "max" and for the huge number by which version 1 says unlimited.
std::optional<std::uint64_t> parse_cgroup_limit(std::string_view text);

/// Bytes of file cache in a memory.stat of either version, child groups included.
std::uint64_t parse_file_cache(std::string_view memory_stat);

}  // namespace sluice::cache
