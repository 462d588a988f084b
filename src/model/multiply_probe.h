// How fast the computing threads multiply many rows with the weights of a model's experts.
#pragma once

#include "kernels/isa.h"
#include "model/expert_layout.h"
#include "stream/drive_probe.h"

namespace sluice::model {

/// Multiplications per second of the stacked path (moe.h) over experts of this shape and format with 32 rows each, as
/// prompts have: the median of the passes of 100 ms, and of one at least, behind one that may meet cold
/// pages. A run does not see the best of them. The weights are made up; no
/// kernel takes longer for others.
double probe_multiply(const ExpertLayout& layout, const kernels::Context& context,
                      const stream::Clock& clock = steady_seconds);

}  // namespace sluice::model
