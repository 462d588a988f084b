#include "cache/memory_watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <exception>
#include <limits>
#include <utility>

#include "base/units.h"

namespace sluice::cache {
namespace {

// What must stay available. In a group with a limit it is only the pages of the program itself that have to find room
// beside what was planned (file caches count as available). The whole machine needs more: other programs' caches.
constexpr std::uint64_t kGroupLowMark = 16 * kMiB;
constexpr std::uint64_t kMachineLowMark = 128 * kMiB;
constexpr std::uint64_t kHighOverLow = 3;

// A run that has all it needs in memory has no major faults; at 0.1 ms each, this many are a hundredth of the time.
constexpr double kFaultsPerSecond = 100;
constexpr double kStallShare = 0.1;  // of the time, some task waits for memory
constexpr int kPagingSamples = 3;    // fewer may be the first touch of a part of the program

// What others take between two samples counts this often: a sample, its answer, and one to spare.
constexpr std::uint64_t kSamplesAhead = 3;

constexpr int kShrinkFraction = 8;
constexpr int kGrowFraction = 16;
constexpr double kShortestWait = 10;
constexpr double kLongestWait = 300;
constexpr double kSoonAfterGrowth = 5;

std::uint64_t low_mark(const AvailableMemory& available) {
  return available.limited_group ? kGroupLowMark : kMachineLowMark;
}
std::uint64_t high_mark(const AvailableMemory& available) { return kHighOverLow * low_mark(available); }

/// Bytes by which less is available, other than through this process: its own growth was planned.
std::uint64_t taken_by_others(const MemoryPressure& before, const MemoryPressure& after) {
  if (before.available.origin != after.available.origin) return 0;  // of another group
  const std::uint64_t had = before.available.bytes + before.resident_bytes;
  const std::uint64_t has = after.available.bytes + after.resident_bytes;
  return had > has ? had - has : 0;
}

/// Of a counter. One that went back is another group's: the process was moved.
double growth(std::uint64_t before, std::uint64_t after) {
  return after > before ? static_cast<double>(after - before) : 0;
}

}  // namespace

MemoryWatch::MemoryWatch(const WatchedSlots& slots, std::function<MemoryPressure()> read,
                         std::function<double()> seconds)
    : slots_(slots),
      read_(std::move(read)),
      seconds_(std::move(seconds)),
      in_use_(slots.most),
      sampled_(-std::numeric_limits<double>::infinity()),
      calm_since_(seconds_()),
      grown_(-std::numeric_limits<double>::infinity()),
      wait_(kShortestWait) {
  assert(slots.least >= 1 && slots.least <= slots.most && slots.row_bytes > 0);
}

std::optional<MemoryWatch::Advice> MemoryWatch::poll() {
  const double now = seconds_();
  const double passed = now - sampled_;
  if (passed < kSampleSeconds) return std::nullopt;
  sampled_ = now;
  MemoryPressure sample;
  try {
    sample = read_();
  } catch (const std::exception&) {
    last_.reset();
    return std::nullopt;
  }
  const std::optional<MemoryPressure> before = std::exchange(last_, sample);
  const AvailableMemory& available = sample.available;

  const double faults = before ? growth(before->major_faults, sample.major_faults) : 0;
  double stalled = 0;  // share of the time
  if (before && before->stall_microseconds && sample.stall_microseconds) {
    stalled = growth(*before->stall_microseconds, *sample.stall_microseconds) / (1e6 * passed);
  }
  const bool ours = faults > 0 || available.bytes < high_mark(available);
  const bool paging = faults / passed >= kFaultsPerSecond || (stalled >= kStallShare && ours);
  paging_samples_ = paging ? paging_samples_ + 1 : 0;

  const std::uint64_t ahead = before ? kSamplesAhead * taken_by_others(*before, sample) : 0;
  if (available.bytes < low_mark(available) + ahead) {
    const std::uint64_t missing = high_mark(available) + 2 * ahead - available.bytes;
    const std::uint64_t rows = (missing + slots_.row_bytes - 1) / slots_.row_bytes;
    const int kept = rows < static_cast<std::uint64_t>(in_use_) ? in_use_ - static_cast<int>(rows) : 0;
    return shrink(kept, now, fmt::format("{} available ({})", format_bytes(available.bytes), available.origin));
  }
  if (paging_samples_ >= kPagingSamples) {
    return shrink(
        in_use_ - std::max(1, in_use_ / kShrinkFraction), now,
        fmt::format("{:.0f} page faults per second wait for a disk, tasks wait for memory {:.0f} % of the time",
                    faults / passed, 100 * stalled));
  }
  if (paging) {
    calm_since_ = now;
    return std::nullopt;
  }
  return grow(available, now);
}

std::optional<MemoryWatch::Advice> MemoryWatch::shrink(int slots, double now, std::string reason) {
  if (now - grown_ <= kSoonAfterGrowth) {
    wait_ = std::min(2 * wait_, kLongestWait);
  } else if (now - calm_since_ >= kLongestWait) {
    wait_ = kShortestWait;
  }
  grown_ = -std::numeric_limits<double>::infinity();  // one growth is blamed once
  calm_since_ = now;
  slots = std::max(slots, slots_.least);
  if (slots == in_use_) return std::nullopt;
  in_use_ = slots;
  return Advice{in_use_, std::move(reason)};
}

std::optional<MemoryWatch::Advice> MemoryWatch::grow(const AvailableMemory& available, double now) {
  if (in_use_ == slots_.most || now - calm_since_ < wait_) return std::nullopt;
  const std::uint64_t spare = available.bytes - std::min(available.bytes, high_mark(available));
  const auto step =
      std::min<std::uint64_t>({static_cast<std::uint64_t>(std::max(1, slots_.most / kGrowFraction)),
                               static_cast<std::uint64_t>(slots_.most - in_use_), spare / slots_.row_bytes});
  if (step == 0) return std::nullopt;
  in_use_ += static_cast<int>(step);
  calm_since_ = grown_ = now;
  return Advice{in_use_, fmt::format("{} available", format_bytes(available.bytes))};
}

}  // namespace sluice::cache
