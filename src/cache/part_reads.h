// From an expert to the reads that bring its parts into a slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/units.h"
#include "cache/expert_record.h"
#include "stream/reader.h"

namespace sluice::cache {

/// Longest read. The kernel cuts transfers at the device's own limit (128 KiB to about 1 MiB) anyway, so longer ones
/// gain nothing, while pieces let a single missing expert keep a deep queue busy.
inline constexpr std::uint64_t kMaxReadBytes = kMiB;

/// Bytes of a slot that a part needs, wherever it lies in the file: the aligned window around it, and at least 4 KiB
/// behind it, since readers of packed weights may look a few bytes past its end.
std::uint64_t part_room(std::uint64_t bytes);

/// The parts of a layer's experts as those of expert 0 follow each other in the files, [parts].
std::vector<int> file_order(const LayerExperts& layer);

/// How many reads an expert of that layer takes at most.
std::size_t max_expert_reads(const LayerExperts& layer);

/// Appends the reads that bring `expert` into `memory` (aligned; the sum of part_room() over the parts), all with
/// `tag`, and sets where each of its parts will start, `parts` [parts]. Parts that lie together in a file, less than
/// kIoAlignment apart in `order` (see file_order()), are read as one range: some drives take longer for a request than
/// for the bytes of a small part. Returns the bytes requested, those around the parts included.
std::uint64_t append_expert_reads(const LayerExperts& layer, std::span<const int> order, int expert, std::byte* memory,
                                  std::uint64_t tag, const std::byte** parts, std::vector<stream::Read>& reads);

/// How many ranges append_expert_reads() reads an expert in: 1 if its parts lie together and take 1 GiB at most.
int range_count(const LayerExperts& layer, int expert);

/// What append_expert_reads() requests for an expert, mean over those of the layer, rounded down.
std::uint64_t mean_read_bytes(const LayerExperts& layer);

}  // namespace sluice::cache
