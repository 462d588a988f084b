// The clock that durations are measured with.
#pragma once

namespace sluice {

/// Seconds of the steady clock since some fixed time; only differences count. Thread-safe.
double steady_seconds();

}  // namespace sluice
