// How fast this drive delivers the checkpoint: the figure that the disk bound is computed from.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/clock.h"
#include "stream/checkpoint.h"
#include "stream/reader.h"

namespace sluice::stream {

struct DriveProbeOptions {
  double seconds = 0.15;  // no read starts after that; enough for hundreds of reads on a drive of 1 GB/s
  unsigned depth = 32;    // reads in flight: where published depth curves of NVMe drives are flat
  std::uint64_t seed = 1;
};

/// Seconds on a monotonic clock; only differences count.
using Clock = std::function<double()>;

/// Bytes per second of random aligned reads of 256 KiB to 1 MiB, the size of expert slices, over `files`, of which
/// files[i] was added to `reader` as file i. Files of less than 8 MiB in all are read once, in order; 0 if they are
/// empty. Holds depth MiB of memory while it runs. The reader has no other reads outstanding. With buffered I/O, what
/// was in the page cache before counts as read, which flatters the drive. Throws Error if a read fails.
double probe_bandwidth(Reader& reader, std::span<const FileInfo> files, const DriveProbeOptions& options = {},
                       const Clock& clock = steady_seconds);

}  // namespace sluice::stream
