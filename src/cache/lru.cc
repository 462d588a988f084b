// Least recently used: the baseline every streaming runtime can be compared by.
#include <algorithm>
#include <cassert>
#include <limits>
#include <vector>

#include "cache/eviction_policies.h"

namespace sluice::cache {
namespace {

class Lru final : public EvictionPolicy {
 public:
  explicit Lru(int experts) : last_use_(static_cast<std::size_t>(experts), kNever) {}

  void touch(int expert, std::uint64_t step, int age) override {
    std::int64_t& last = last_use_[static_cast<std::size_t>(expert)];
    last = std::max(last, static_cast<std::int64_t>(step) * (kRecentTokens + 1) - age);
  }

  int victim(std::span<const int> candidates, std::uint64_t) override {
    assert(!candidates.empty());
    return *std::min_element(candidates.begin(), candidates.end(),
                             [this](int a, int b) { return leaves_before(a, b); });
  }

 private:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();

  bool leaves_before(int a, int b) const {
    const std::int64_t last_a = last_use_[static_cast<std::size_t>(a)];
    const std::int64_t last_b = last_use_[static_cast<std::size_t>(b)];
    return last_a != last_b ? last_a < last_b : a < b;
  }

  std::vector<std::int64_t> last_use_;  // [experts] in tokens, of which a step has room for all that it tells
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lru(int experts) { return std::make_unique<Lru>(experts); }

}  // namespace sluice::cache
