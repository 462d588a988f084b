// Ctrl-C: the first one asks, the second one ends.
#pragma once

#include <atomic>

namespace sluice::tools {

/// While it lives, the first SIGINT or SIGTERM sets a flag that the generation loop watches, and a second one ends
/// the process at once. Restores the former handling when destroyed. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Set by the first signal.
  const std::atomic<bool>& requested() const;
  /// What the shell expects of a program that ended for the signal: 128 + its number (130 for Ctrl-C).
  int exit_code() const;
};

}  // namespace sluice::tools
