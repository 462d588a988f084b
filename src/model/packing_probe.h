// What `sluice pack` would gain on this drive: measured, by reading experts as they lie and as records.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/clock.h"
#include "model/expert_layout.h"
#include "stream/checkpoint.h"
#include "stream/drive_probe.h"
#include "stream/reader.h"

namespace sluice::model {

/// How fast the misses of a layer come. Bytes are those of experts, without what is read around them.
struct PackingRates {
  int slices = 0;        // that an expert is read in as it lies, the most there are
  double scattered = 0;  // bytes per second, as they lie
  double record = 0;     // bytes per second, as one record each

  double gain() const { return scattered > 0 ? record / scattered : 1; }
};

struct PackingProbeOptions {
  double seconds = 0.25;  // a slow drive takes as long as one burst of each kind does
  std::uint64_t seed = 1;
};

/// Experts that are asked for at once: what a layer of a model with 8 experts per token misses when half are in slots.
inline constexpr int kBurstExperts = 4;

/// Reads in turns bursts of a few random experts of a layer, as a run reads them (cache/part_reads.h), and bursts of as
/// many contiguous records of the same size from `files`, of which files[i] was added to `reader` as file i. Each burst
/// begins when the one before has come. The reader has no other reads outstanding. None if every expert is read in one
/// range already, or no file is as large as an expert. Throws Error if a read fails.
std::optional<PackingRates> probe_packing(std::span<const ExpertLayout> experts,
                                          std::span<const stream::FileInfo> files, stream::Reader& reader,
                                          const PackingProbeOptions& options = {},
                                          const stream::Clock& clock = steady_seconds);

}  // namespace sluice::model
