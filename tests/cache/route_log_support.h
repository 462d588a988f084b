// Random requests as a model makes them: a prompt chunk now and then, else a few experts a step that drift.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "cache/route_log.h"

namespace sluice::cache {

/// `steps` steps over all layers. Chunks ask for up to all experts, decode steps for up to six.
inline RouteLog random_log(int layers, int experts, int steps, unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
  RouteLog log(layers, experts);
  for (int step = 0; step < steps; ++step) {
    const bool chunk = step == 0 || below(12) == 0;
    for (int layer = 0; layer < layers; ++layer) {
      std::vector<std::uint16_t> ids;
      std::vector<ExpertUse> uses;
      for (int count = 1 + below(chunk ? 2 * experts : std::min(6, experts)); count > 0; --count) {
        const int id = below(2) == 0 ? below(experts) : (step / 16 + below(4)) % experts;
        ids.push_back(static_cast<std::uint16_t>(id));
      }
      // Tokens of three experts each.
      const auto row_ids = [&](std::size_t row) { return std::span(ids).subspan(3 * row, 3); };
      if (chunk) for_recent_uses(ids.size() / 3, row_ids, [&](ExpertUse use) { uses.push_back(use); });
      log.add(layer, chunk ? Phase::prefill : Phase::decode, static_cast<std::uint64_t>(step), ids, uses);
    }
  }
  return log;
}

}  // namespace sluice::cache
