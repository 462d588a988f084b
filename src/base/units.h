// Bytes and rates as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

/// Parses "6GiB", "6G", "200MB", "1.5g", "4096": K/M/G/T with or without "iB" are powers of 1024, with "B" powers
/// of 1000 (6GB = 6e9). Case does not matter. Throws UsageError naming `what` (a flag) if the text is not a size.
std::uint64_t parse_size(std::string_view text, std::string_view what);

/// "212 MiB", "9.8 GiB": three significant digits, binary units.
std::string format_bytes(std::uint64_t bytes);

/// "1.42 GiB/s".
std::string format_rate(double bytes_per_second);

}  // namespace sluice
