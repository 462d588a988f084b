#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/vector.h"

namespace sluice::kernels {

void top_k(std::span<const float> values, TieRule ties, std::span<int> indices) {
  assert(indices.size() <= values.size());
  // `later` has the higher index of the two.
  const auto beats = [&](int later, int earlier) {
    const float a = values[static_cast<std::size_t>(later)];
    const float b = values[static_cast<std::size_t>(earlier)];
    if (a > b || (std::isnan(b) && !std::isnan(a))) return true;
    const bool equal = a == b || (std::isnan(a) && std::isnan(b));
    return equal && ties == TieRule::higher_index;
  };
  // Insertion into the sorted best so far: almost every value fails its one comparison with the last of them.
  const std::size_t k = indices.size();
  if (k == 0) return;
  std::size_t held = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int candidate = static_cast<int>(i);
    if (held == k && !beats(candidate, indices[k - 1])) continue;
    std::size_t at = held < k ? held++ : k - 1;
    for (; at > 0 && beats(candidate, indices[at - 1]); --at) indices[at] = indices[at - 1];
    indices[at] = candidate;
  }
}

int argmax(std::span<const float> values) {
  assert(!values.empty());
  // Eight maxima side by side, which become vectors: a vocabulary is the longest serial loop of a token. A NaN is never
  // larger.
  constexpr std::size_t kLanes = 8;
  std::array<float, kLanes> largest;
  largest.fill(-std::numeric_limits<float>::infinity());
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      largest[lane] = value > largest[lane] ? value : largest[lane];
    }
  }
  float best = *std::max_element(largest.begin(), largest.end());
  for (const float value : values.subspan(whole)) best = value > best ? value : best;
  const auto found = std::find(values.begin(), values.end(), best);
  return found == values.end() ? 0 : static_cast<int>(found - values.begin());  // all NaN
}

}  // namespace sluice::kernels
