// A scripted device with a clock, for what measures how fast reads come.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "stream/fake_engine.h"

namespace sluice::stream {

inline constexpr unsigned kDeviceDepth = 128;

/// A device with a clock: an operation takes `latency` and its bytes `per_byte`, one after the other; more of both for
/// whatever a test wants to be slow.
class TimedEngine final : public IoEngine {
 public:
  using Cost = std::function<double(const IoOp& op, std::size_t in_flight)>;

  TimedEngine(FakeDevice& device, double& now, Cost cost)
      : engine_(device, kDeviceDepth), now_(now), cost_(std::move(cost)) {}

  std::string_view name() const override { return "timed"; }
  unsigned depth() const override { return kDeviceDepth; }
  void submit(std::span<const IoOp> ops) override {
    engine_.submit(ops);
    in_flight_.insert(in_flight_.end(), ops.begin(), ops.end());
  }
  std::size_t reap(std::span<IoResult> results, bool wait) override {
    const std::size_t count = engine_.reap(results.first(1), wait);
    if (count == 1) {
      now_ += cost_(in_flight_.front(), in_flight_.size());
      in_flight_.erase(in_flight_.begin());
    }
    return count;
  }

 private:
  FakeEngine engine_;
  double& now_;
  Cost cost_;
  std::vector<IoOp> in_flight_;
};

}  // namespace sluice::stream
