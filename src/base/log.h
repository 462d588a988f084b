// Logging to stderr. Only this header is included elsewhere, so that the logging library is compiled once.
#pragma once

#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace sluice::log {

enum class Level { debug, info, warn, error, off };

/// Sets the lowest level that is printed. Default: info. Thread-safe.
void set_level(Level level);

/// Writes one line to stderr if `level` is enabled. Thread-safe.
void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace sluice::log
