// How fast this drive delivers the checkpoint: the figure that the disk bound is computed from.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/units.h"
#include "stream/checkpoint.h"
#include "stream/reader.h"

namespace sluice::stream {

struct DriveProbeOptions {
  double seconds = 0.5;  // of all cells together; a slow drive takes up to twice that, and the reads that have begun
  std::uint64_t seed = 1;
};

/// Seconds on a monotonic clock; only differences count.
using Clock = std::function<double()>;

/// One way to read, and what came of it.
struct DriveProbeCell {
  std::uint64_t slice_bytes = 0;  // of one read
  unsigned depth = 0;             // reads in flight
  std::uint64_t bytes = 0;        // read this way
  double seconds = 0;             // spent on it

  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

struct DriveProbe {
  std::vector<DriveProbeCell> cells;  // those that were measured; bytes in flight ascend
  double latency = 0;                 // seconds from asking an idle drive to its answer; 0 if not measured

  /// The fastest cell, which the probe owns; null if nothing could be read.
  const DriveProbeCell* best() const&;
  const DriveProbeCell* best() && = delete;
  /// Its rate, or 0.
  double bytes_per_second() const;
};

/// Single blocks whose median time is the latency; on a hard disk they take a quarter of a second.
inline constexpr std::size_t kLatencyReads = 25;

/// Memory that probe_drive() holds while it runs, and so the most that it has in flight.
inline constexpr std::uint64_t kDriveProbeBytes = 32 * kMiB;

/// Reads random aligned slices of `files`, of which files[i] was added to `reader` as file i, in a grid of ways: slices
/// of 128 KiB to 2 MiB, 8 to 128 at once. The best way is what the drive can do: a program that reads it in poor slices
/// or too few at once is then measured against that, not against itself. Every way has the same share of the time, in
/// two turns, the second in reverse order, so that a drive that speeds up or slows down meanwhile favours none; a way's
/// rate is its bytes over its time, the emptying of its queue included. Last come single blocks, each asked for when
/// the one before has come: the median of their times is the latency. `options.seed` decides the offsets. Files of less
/// than 8 MiB in all are read once, in order, in one way; there is none if they are empty. The reader has no other
/// reads outstanding. With buffered I/O, what was in the page cache before counts as read, which flatters the drive.
/// Throws Error if a read fails.
DriveProbe probe_drive(Reader& reader, std::span<const FileInfo> files, const DriveProbeOptions& options = {},
                       const Clock& clock = steady_seconds);

}  // namespace sluice::stream
