// What disk, memory and processor deliver on this machine: what every bound is computed from.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "kernels/isa.h"
#include "model/model.h"
#include "model/plan.h"
#include "stream/drive_probe.h"

namespace sluice::model {

struct Rates {
  double disk = 0;                    // bytes per second; 0 unknown
  double memory = 0;                  // likewise
  double multiply = 0;                // multiplications per second with experts; 0 unknown, or no experts
  double disk_latency = 0;            // seconds an idle drive takes to answer
  stream::DriveProbe drive;           // what `disk` is the best of; no cells if they were not measured now
  std::optional<double> age_seconds;  // of rates from a cache (rates_cache.h); none if measured now
};

/// Gives rates when they are asked for: probing takes time and reads.
using RatesSource = std::function<Rates()>;

/// Probes the drive (stream/drive_probe.h) with the model's reader and files, then memory (memory_probe.h) over its
/// dense weights with its threads: 0.6 seconds as a rule. Multiplication is left unknown: only prompts need it.
/// Not during a forward().
Rates measure_rates(Model& model);
/// The same, and multiplication by the model's first experts (multiply_probe.h); 0 if it has none.
Rates measure_prompt_rates(Model& model);
/// All of them before a model is loaded: memory is probed over as much of it as weights and slots will
/// take, at most 256 MiB or a quarter of what is available. `reader` has the checkpoint's files, in order.
Rates measure_rates(const ModelPlan& plan, stream::Reader& reader, const kernels::Context& context);

/// "measured 3 hours ago"; empty if they were measured now.
std::string age_text(const Rates& rates);

}  // namespace sluice::model
