#include "model/routes/guess_noise.h"

#include <algorithm>
#include <vector>

namespace sluice::model {
namespace {

constexpr int kRoutes = 512;     // with 4 experts each, one standard error is below 0.01
constexpr float kBlind = 64;     // scores spread over 2 or 3: little is left of them under this noise
constexpr int kBisections = 14;  // to 0.004, which changes the recall by less than its error

}  // namespace

double guess_recall(RouteGenerator generator, float noise, int routes) {
  std::vector<int> guess(static_cast<std::size_t>(generator.top_k()));
  std::vector<int> ids(guess.size());
  std::vector<float> weights(guess.size());
  std::size_t found = 0;
  for (int i = 0; i < routes; ++i) {
    const int layer = i % generator.layers();
    generator.guess(layer, noise, guess);
    generator.route(layer, ids, weights);
    for (const int id : ids) found += std::count(guess.begin(), guess.end(), id) > 0 ? 1 : 0;
  }
  return static_cast<double>(found) / static_cast<double>(ids.size() * static_cast<std::size_t>(routes));
}

float guess_noise(const RouteGenerator& generator, double recall) {
  if (recall >= 1) return 0;
  float too_good = 0;
  float too_bad = kBlind;
  for (int i = 0; i < kBisections; ++i) {
    const float between = (too_good + too_bad) / 2;
    (guess_recall(generator, between, kRoutes) >= recall ? too_good : too_bad) = between;
  }
  return (too_good + too_bad) / 2;
}

}  // namespace sluice::model
