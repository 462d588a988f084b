// acquire() and next() allocate nothing once they have run for a while.
#include <gtest/gtest.h>

#include <array>

#include "cache/allocation_count.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

// Every kind of step: misses, hits, waves, a lease beside another, one dropped early.
void run_steps(ExpertCache& cache, std::uint64_t first_step) {
  for (std::uint64_t step = first_step; step < first_step + 50; ++step) {
    const int base = static_cast<int>(step % 7);
    const std::array wave = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    Lease waves = cache.acquire(0, wave, Phase::prefill, step);
    while (!waves.next().empty()) {
    }
    const std::array few = {base, base + 2};
    Lease lease = cache.acquire(1, few, Phase::decode, step);
    { const Lease dropped = cache.acquire(1, few, Phase::decode, step); }
    while (!lease.next().empty()) {
    }
  }
}

TEST(ExpertCacheAllocation, SteadyStateAllocatesNothing) {
  ExpertFile file({{10, {5000, 313}}, {10, {700, 9001}}});
  stream::Reader reader = file.reader(0);
  file.device().log.reserve(10000);  // the test's own
  ExpertCache cache(file.layers(), {.slots_per_layer = 4}, reader);
  run_steps(cache, 0);
  const std::uint64_t misses_before = cache.counts(Phase::decode).misses_capacity;
  const std::size_t before = allocation_count();
  run_steps(cache, 50);
  EXPECT_EQ(allocation_count(), before);
  EXPECT_GT(cache.counts(Phase::decode).misses_capacity, misses_before) << "the steps have read something";
}

}  // namespace
}  // namespace sluice::cache
