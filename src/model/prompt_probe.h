// What a chunk of a prompt takes, measured on the model's own code and weights before the model is loaded.
#pragma once

#include "kernels/isa.h"
#include "model/plan.h"
#include "stream/drive_probe.h"
#include "stream/reader.h"

namespace sluice::model {

/// 0: not known, or the model has no experts.
struct PromptRates {
  double block_seconds = 0;  // per token and for all blocks, without routed and shared experts
  double multiply = 0;       // multiplications per second with experts while others are read
  double disk = 0;           // bytes per second of experts that are read whole, all their parts, several at once
};

/// Loads one block of each kind and computes 128 rows in the middle of the first chunk with it: projections, rotation,
/// attention to the positions before, recurrences, dense layers, routers. Each kind counts as often as the model has
/// it. Then experts of the first MoE layer go through a cache of 8 slots with as many rows each as a chunk of
/// `plan.budget.chunk_tokens` gives `distinct_experts` of them, at first only read and then computed as well. Medians
/// of the passes of 0.1 seconds, and of one at least, behind one that warms up. Throws Error if a read fails. `reader`
/// has the checkpoint's files, in order, and no reads under way.
PromptRates probe_prompt(const ModelPlan& plan, double distinct_experts, stream::Reader& reader,
                         const kernels::Context& context, const stream::Clock& clock = steady_seconds);

}  // namespace sluice::model
