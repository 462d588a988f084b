// From a part of an expert to the reads that bring it into its slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/units.h"
#include "cache/expert_record.h"
#include "stream/reader.h"

namespace sluice::cache {

/// Longest read of a part. The kernel cuts transfers at the device's own limit (128 KiB to about 1 MiB) anyway, so
/// longer ones gain nothing, while pieces let a single missing expert keep a deep queue busy.
inline constexpr std::uint64_t kMaxReadBytes = kMiB;

/// How many reads a slice of that size takes at most, wherever it starts in the file.
std::size_t max_part_reads(std::uint64_t bytes);

/// Appends the reads of the aligned window around `slice` into `region` (aligned, see SlotLayout), all with `tag`.
/// Returns where the slice itself starts in the region, in bytes.
std::uint32_t append_part_reads(const Slice& slice, std::byte* region, std::uint64_t tag,
                                std::vector<stream::Read>& reads);

}  // namespace sluice::cache
