// What disk and memory deliver on this machine: what every bound is computed from.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/thread_team.h"
#include "model/model.h"
#include "stream/drive_probe.h"

namespace sluice::model {

struct Rates {
  double disk = 0;                                // bytes per second; 0 unknown
  double memory = 0;                              // likewise
  std::vector<stream::DriveProbeCell> disk_grid;  // what `disk` is the best of; empty if they were not measured now
  std::optional<double> age_seconds;              // of rates from a cache (rates_cache.h); none if measured now
};

/// Gives rates when they are asked for: probing takes time and reads.
using RatesSource = std::function<Rates()>;

/// Probes the drive (drive_probe.h), then memory (memory_probe.h): 0.6 seconds as a rule. `files` are the reader's, in
/// order.
Rates measure_rates(stream::Reader& reader, std::span<const stream::FileInfo> files, std::span<const std::byte> memory,
                    kernels::ThreadTeam& team);
/// The same over a model's own files and weights, with its reader and threads. Not during a forward().
Rates measure_rates(Model& model);

/// "measured 3 hours ago"; empty if they were measured now.
std::string age_text(const Rates& rates);

}  // namespace sluice::model
