#include "stream/drive_probe.h"

#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

constexpr std::uint64_t kSmallest = 256 * kKiB;
constexpr std::uint64_t kLargest = kMiB;
constexpr std::uint64_t kTiny = 8 * kMiB;  // below it, random reads would mostly repeat each other

/// Says which ranges to read, one after another. Both ways leave dest and tag open.
class Plan {
 public:
  Plan(std::span<const FileInfo> files, std::uint64_t seed) : files_(files), random_(seed) {
    for (const FileInfo& file : files) total_ += file.bytes;
  }

  /// The next read, or nothing once tiny files have been read.
  std::optional<Read> next() {
    if (total_ >= kTiny) return next_random();
    return next_in_order();
  }

 private:
  /// A read of `length` bytes from an aligned offset on, or what the file has of them.
  Read read(std::size_t file, std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t needed = std::min(length, files_[file].bytes - offset);
    return {.file = static_cast<int>(file),
            .offset = offset,
            .length = static_cast<std::uint32_t>(round_up(needed, kIoAlignment)),
            .needed = static_cast<std::uint32_t>(needed)};
  }

  Read next_random() {
    // A uniform byte of all files, so that each is hit by its size.
    std::uint64_t position = std::uniform_int_distribution<std::uint64_t>(0, total_ - 1)(random_);
    std::size_t file = 0;
    while (position >= files_[file].bytes) position -= files_[file++].bytes;
    const std::uint64_t length = kSmallest << std::uniform_int_distribution<int>(0, 2)(random_);
    return read(file, round_down(position, kIoAlignment), length);
  }

  std::optional<Read> next_in_order() {
    while (file_ < files_.size() && offset_ >= files_[file_].bytes) {
      ++file_;
      offset_ = 0;
    }
    if (file_ == files_.size()) return std::nullopt;
    const std::uint64_t offset = offset_;
    offset_ += kSmallest;
    return read(file_, offset, kSmallest);
  }

  const std::span<const FileInfo> files_;
  std::uint64_t total_ = 0;  // bytes of all files
  std::mt19937_64 random_;
  std::size_t file_ = 0;      // where next_in_order() stands
  std::uint64_t offset_ = 0;  // in that file
};

}  // namespace

double probe_bandwidth(Reader& reader, std::span<const FileInfo> files, const DriveProbeOptions& options,
                       const Clock& clock) {
  const Buffer buffer = Buffer::allocate(options.depth * kLargest, "drive probe");
  buffer.prefault();  // or the first reads would be charged for the page faults
  Plan plan(files, options.seed);
  std::uint64_t bytes = 0;
  // Each read in flight has its own part of the buffer, named by its tag.
  const auto submit = [&](std::uint64_t tag) {
    std::optional<Read> read = plan.next();
    if (!read) return;
    read->dest = buffer.data() + tag * kLargest;
    read->tag = tag;
    bytes += read->needed;
    reader.submit({&*read, 1});
  };

  const double begin = clock();
  double now = begin;
  for (unsigned tag = 0; tag < options.depth; ++tag) submit(tag);
  std::array<Completion, 32> done;
  while (reader.outstanding() > 0) {
    const std::size_t count = reader.poll(done, true);
    now = clock();
    for (std::size_t i = 0; i < count; ++i) {
      if (!done[i].error.empty()) fail("{}", done[i].error);
      if (now - begin < options.seconds) submit(done[i].tag);
    }
  }
  return now > begin ? static_cast<double>(bytes) / (now - begin) : 0;
}

}  // namespace sluice::stream
