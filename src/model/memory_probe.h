// How fast the computing threads read memory: the figure that the memory bound is computed from.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/thread_team.h"
#include "stream/drive_probe.h"

namespace sluice::model {

/// Bytes per second at which all threads of the team together sweep `memory`, which a token touches in a run: the best
/// of the sweeps that fit into 50 ms, and of two at least, because the first may meet cold pages. 0 if it is smaller
/// than a cache line.
double probe_memory(std::span<const std::byte> memory, kernels::ThreadTeam& team,
                    const stream::Clock& clock = steady_seconds);

}  // namespace sluice::model
