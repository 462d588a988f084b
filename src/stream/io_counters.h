// The kernel's own count of what this process has read, to check ours against.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::stream {

/// From /proc/PID/io, since the process began, all threads together.
struct ProcessIo {
  std::uint64_t rchar = 0;       // bytes that read calls returned, from the page cache or a device
  std::uint64_t syscr = 0;       // read calls
  std::uint64_t read_bytes = 0;  // bytes fetched from block devices, read-ahead and page faults included
};

/// Parses the text of /proc/PID/io; nothing if one of the counters is missing or no number.
std::optional<ProcessIo> parse_process_io(std::string_view text);

/// The counters of this process; nothing if the kernel does not tell (some containers hide them).
std::optional<ProcessIo> read_process_io();

}  // namespace sluice::stream
