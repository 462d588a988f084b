#include "stream/drive_probe.h"

#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/memory.h"

namespace sluice::stream {
namespace {

constexpr std::uint64_t kTiny = 8 * kMiB;  // below it, random reads would mostly repeat each other

// Expert slices are 100 KiB to a few MiB, cut to 1 MiB; published depth curves of NVMe drives rise up to 32 and, with
// the smallest slices, beyond.
constexpr std::array kSlices{128 * kKiB, 256 * kKiB, 512 * kKiB, kMiB, 2 * kMiB};
constexpr std::array kDepths{8U, 32U, 128U};

/// For files that are read once.
constexpr DriveProbeCell kInOrder{.slice_bytes = 256 * kKiB, .depth = 32};

/// Few bytes in flight come first: on a drive so slow that the time runs out, those cells are the ones that end soon,
/// and they tell enough.
std::vector<DriveProbeCell> grid() {
  std::vector<DriveProbeCell> cells;
  for (const std::uint64_t slice : kSlices) {
    for (const unsigned depth : kDepths) {
      if (slice * depth <= kDriveProbeBytes) cells.push_back({.slice_bytes = slice, .depth = depth});
    }
  }
  std::stable_sort(cells.begin(), cells.end(), [](const DriveProbeCell& a, const DriveProbeCell& b) {
    return a.slice_bytes * a.depth < b.slice_bytes * b.depth;
  });
  return cells;
}

/// What to read next; dest and tag are left open. Nothing ends the visit.
using NextRead = std::function<std::optional<Read>()>;

/// A read of `length` bytes of a file from an aligned offset on, or what the file has of them.
Read read_at(std::span<const FileInfo> files, std::size_t file, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t needed = std::min(length, files[file].bytes - offset);
  return {.file = static_cast<int>(file),
          .offset = offset,
          .length = static_cast<std::uint32_t>(round_up(needed, kIoAlignment)),
          .needed = static_cast<std::uint32_t>(needed)};
}

/// Reads in one way: keeps its number of reads in flight for `seconds`, then waits for the last ones.
void visit(DriveProbeCell& cell, Reader& reader, const Buffer& buffer, double seconds, const NextRead& next,
           const Clock& clock) {
  // Each read in flight has its own part of the buffer, named by its tag.
  const auto submit = [&](std::uint64_t tag) {
    std::optional<Read> read = next();
    if (!read) return;
    read->dest = buffer.data() + tag * cell.slice_bytes;
    read->tag = tag;
    cell.bytes += read->needed;
    reader.submit({&*read, 1});
  };
  const double begin = clock();
  double now = begin;
  for (unsigned tag = 0; tag < cell.depth; ++tag) submit(tag);
  std::array<Completion, 32> done;
  while (reader.outstanding() > 0) {
    const std::size_t count = reader.poll(done, true);
    now = clock();
    for (std::size_t i = 0; i < count; ++i) {
      if (!done[i].error.empty()) fail("{}", done[i].error);
      if (now - begin < seconds) submit(done[i].tag);
    }
  }
  cell.seconds += now - begin;
}

/// Random slices of files.
class RandomReads {
 public:
  RandomReads(std::span<const FileInfo> files, std::uint64_t total, std::uint64_t seed)
      : files_(files), total_(total), random_(seed) {}

  Read next(std::uint64_t length) {
    // A uniform byte of all files, so that each is hit by its size.
    std::uint64_t position = std::uniform_int_distribution<std::uint64_t>(0, total_ - 1)(random_);
    std::size_t file = 0;
    while (position >= files_[file].bytes) position -= files_[file++].bytes;
    return read_at(files_, file, round_down(position, kIoAlignment), length);
  }

 private:
  std::span<const FileInfo> files_;
  std::uint64_t total_;  // bytes of all files
  std::mt19937_64 random_;
};

void visit_grid(std::vector<DriveProbeCell>& cells, Reader& reader, const Buffer& buffer, RandomReads& reads,
                const DriveProbeOptions& options, const Clock& clock) {
  const double share = options.seconds / static_cast<double>(2 * cells.size());
  const double begin = clock();
  const auto visit_cell = [&](DriveProbeCell& cell) {
    if (clock() - begin >= 2 * options.seconds && &cell != cells.data()) return;
    const NextRead next = [&] { return std::optional(reads.next(cell.slice_bytes)); };
    visit(cell, reader, buffer, share, next, clock);
  };
  std::for_each(cells.begin(), cells.end(), visit_cell);
  std::for_each(cells.rbegin(), cells.rend(), visit_cell);
  std::erase_if(cells, [](const DriveProbeCell& cell) { return cell.bytes == 0; });
}

/// The median time of single blocks of kIoAlignment bytes.
double measure_latency(Reader& reader, const Buffer& buffer, RandomReads& reads, const Clock& clock) {
  std::array<double, kLatencyReads> seconds{};
  for (double& time : seconds) {
    DriveProbeCell block{.slice_bytes = kIoAlignment, .depth = 1};
    const NextRead next = [&] { return std::optional(reads.next(kIoAlignment)); };
    visit(block, reader, buffer, 0, next, clock);
    time = block.seconds;
  }
  std::nth_element(seconds.begin(), seconds.begin() + kLatencyReads / 2, seconds.end());
  return seconds[kLatencyReads / 2];
}

/// Reads all files once.
DriveProbeCell visit_in_order(Reader& reader, const Buffer& buffer, std::span<const FileInfo> files,
                              const DriveProbeOptions& options, const Clock& clock) {
  DriveProbeCell cell = kInOrder;
  std::size_t file = 0;
  std::uint64_t offset = 0;
  const NextRead next = [&]() -> std::optional<Read> {
    while (file < files.size() && offset >= files[file].bytes) {
      ++file;
      offset = 0;
    }
    if (file == files.size()) return std::nullopt;
    const std::uint64_t from = offset;
    offset += cell.slice_bytes;
    return read_at(files, file, from, cell.slice_bytes);
  };
  visit(cell, reader, buffer, options.seconds, next, clock);
  return cell;
}

}  // namespace

const DriveProbeCell* DriveProbe::best() const& {
  const auto slower = [](const DriveProbeCell& a, const DriveProbeCell& b) {
    return a.bytes_per_second() < b.bytes_per_second();
  };
  const auto found = std::max_element(cells.begin(), cells.end(), slower);
  return found == cells.end() ? nullptr : &*found;
}

double DriveProbe::bytes_per_second() const {
  const DriveProbeCell* cell = best();
  return cell == nullptr ? 0 : cell->bytes_per_second();
}

DriveProbe probe_drive(Reader& reader, std::span<const FileInfo> files, const DriveProbeOptions& options,
                       const Clock& clock) {
  std::uint64_t total = 0;
  for (const FileInfo& file : files) total += file.bytes;
  DriveProbe probe;
  if (total == 0) return probe;
  const Buffer buffer = Buffer::allocate(kDriveProbeBytes, "drive probe");
  buffer.prefault();  // or the first reads would be charged for the page faults
  if (total < kTiny) {
    probe.cells.push_back(visit_in_order(reader, buffer, files, options, clock));
  } else {
    probe.cells = grid();
    RandomReads reads(files, total, options.seed);
    visit_grid(probe.cells, reader, buffer, reads, options, clock);
    probe.latency = measure_latency(reader, buffer, reads, clock);
  }
  return probe;
}

}  // namespace sluice::stream
