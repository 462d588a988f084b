// Puts a planned checkpoint on the disk, whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "model/synth/checkpoint_plan.h"

namespace sluice::model::synth {

/// Bytes written and to write in all; false: stop.
using SynthProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

/// Writes the files into a hidden directory beside `destination` and renames it at the end; `destination` must not
/// exist, or be an empty directory. The bytes depend on the plan alone, not on `threads`. Returns false if `progress`
/// stopped it; then, and after an error, nothing is left. Throws Error naming what is in the way: a destination in
/// use, too little free space, a write that failed.
bool write_checkpoint(const CheckpointPlan& plan, const std::filesystem::path& destination, int threads,
                      const SynthProgress& progress);

/// Throws Error naming `directory`, both numbers and what to do if `available` bytes are not enough.
void require_space(const std::filesystem::path& directory, std::uint64_t needed, std::uint64_t available);

}  // namespace sluice::model::synth
