// Least recently used: the baseline every streaming runtime can be compared by.
#include <algorithm>
#include <cassert>
#include <vector>

#include "cache/eviction_policies.h"

namespace sluice::cache {
namespace {

class Lru final : public EvictionPolicy {
 public:
  explicit Lru(int experts) : last_step_(static_cast<std::size_t>(experts), 0) {}

  void touch(int expert, std::uint64_t step) override { last_step_[static_cast<std::size_t>(expert)] = step; }

  int victim(std::span<const int> candidates, std::uint64_t) override {
    assert(!candidates.empty());
    return *std::min_element(candidates.begin(), candidates.end(),
                             [this](int a, int b) { return leaves_before(a, b); });
  }

 private:
  bool leaves_before(int a, int b) const {
    const std::uint64_t last_a = last_step_[static_cast<std::size_t>(a)];
    const std::uint64_t last_b = last_step_[static_cast<std::size_t>(b)];
    return last_a != last_b ? last_a < last_b : a < b;
  }

  std::vector<std::uint64_t> last_step_;  // [experts]; 0 also before the first lookup
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lru(int experts) { return std::make_unique<Lru>(experts); }

}  // namespace sluice::cache
