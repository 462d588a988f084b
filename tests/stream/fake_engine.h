// A scripted device: serves reads from memory, in the order and with the faults that a test asks for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "stream/io_engine.h"

namespace sluice::stream {

/// What the device does with one operation.
struct Outcome {
  int error = 0;                                                      // errno, or 0
  std::uint32_t at_most = std::numeric_limits<std::uint32_t>::max();  // bytes transferred
};

/// What lies on the device and what happened to it. Outlives the engine, which its Reader owns.
struct FakeDevice {
  std::vector<std::byte> content;  // of the one file there is; a script may change it while reads are in flight
  std::vector<IoOp> log;           // every operation, in order of submission
};

class FakeEngine final : public IoEngine {
 public:
  /// Decides the outcome of an operation when it completes; `nth` counts operations in order of completion.
  using Script = std::function<Outcome(const IoOp& op, std::size_t nth)>;

  /// Completes in random order, now and then fewer than are ready, if `seed` is not 0; else first in, first out.
  FakeEngine(FakeDevice& device, unsigned depth, Script script = {}, std::uint64_t seed = 0)
      : device_(device), depth_(depth), script_(std::move(script)), shuffled_(seed != 0), random_(seed) {}

  std::string_view name() const override { return "fake"; }
  unsigned depth() const override { return depth_; }

  void submit(std::span<const IoOp> ops) override {
    if (in_flight_.size() + ops.size() > depth_) throw std::logic_error("more operations than the depth");
    in_flight_.insert(in_flight_.end(), ops.begin(), ops.end());
    device_.log.insert(device_.log.end(), ops.begin(), ops.end());
  }

  std::size_t reap(std::span<IoResult> results, bool wait) override {
    std::size_t count = std::min(results.size(), in_flight_.size());
    if (shuffled_ && count > 0) {
      std::shuffle(in_flight_.begin(), in_flight_.end(), random_);
      count = std::uniform_int_distribution<std::size_t>(wait ? 1 : 0, count)(random_);
    }
    for (std::size_t i = 0; i < count; ++i) results[i] = {in_flight_[i].id, complete(in_flight_[i])};
    in_flight_.erase(in_flight_.begin(), in_flight_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

 private:
  std::int32_t complete(const IoOp& op) {
    const Outcome outcome = script_ ? script_(op, completed_) : Outcome{};
    ++completed_;
    if (outcome.error != 0) return -outcome.error;
    const std::uint64_t begin = std::min<std::uint64_t>(op.offset, device_.content.size());
    const std::uint64_t end = std::min<std::uint64_t>(op.offset + op.length, device_.content.size());
    const std::uint64_t bytes = std::min<std::uint64_t>(end - begin, outcome.at_most);
    std::memcpy(op.dest, device_.content.data() + begin, bytes);
    return static_cast<std::int32_t>(bytes);
  }

  FakeDevice& device_;
  const unsigned depth_;
  const Script script_;
  const bool shuffled_;
  std::mt19937_64 random_;
  std::vector<IoOp> in_flight_;
  std::size_t completed_ = 0;
};

}  // namespace sluice::stream
