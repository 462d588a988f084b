// Puts a planned checkpoint with its random weights on the disk.
#pragma once

#include <filesystem>

#include "model/checkpoint_writer.h"
#include "model/synth/checkpoint_plan.h"

namespace sluice::model::synth {

/// write_checkpoint() of what the plan says. The bytes depend on the plan alone.
bool write_synthetic(const CheckpointPlan& plan, const std::filesystem::path& destination, int threads,
                     const CheckpointProgress& progress);

}  // namespace sluice::model::synth
