#include "model/memory_probe.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <numeric>

namespace sluice::model {
namespace {

constexpr double kProbeSeconds = 0.05;
constexpr int kLeastSweeps = 2;
constexpr std::int64_t kLanes = 8;  // independent sums, so that loads and not additions are what takes time

}  // namespace

double probe_memory(std::span<const std::byte> memory, kernels::ThreadTeam& team, const stream::Clock& clock) {
  const auto words = static_cast<std::int64_t>(memory.size() / sizeof(std::uint64_t));
  if (words < kLanes) return 0;
  const auto* data = reinterpret_cast<const std::uint64_t*>(memory.data());
  std::atomic<std::uint64_t> sink{0};  // keeps the reads from being optimised away
  double best = 0;
  double spent = 0;
  for (int sweep = 0; sweep < kLeastSweeps || spent < kProbeSeconds; ++sweep) {
    const double start = clock();
    team.parallel_for(words, words / (4 * team.size()) + 1, [&](std::int64_t begin, std::int64_t end) {
      std::array<std::uint64_t, kLanes> sums{};
      for (std::int64_t i = begin; i + kLanes <= end; i += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[static_cast<std::size_t>(lane)] += data[i + lane];
      }
      sink.fetch_add(std::accumulate(sums.begin(), sums.end(), std::uint64_t{0}));
    });
    const double seconds = clock() - start;
    spent += seconds;
    best = std::max(best, static_cast<double>(memory.size()) / seconds);
  }
  return best;
}

}  // namespace sluice::model
