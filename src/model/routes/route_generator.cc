#include "model/routes/route_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace sluice::model {
namespace {

// Fitted to: Qwen3-30B-A3B and Gemma with 6 of the model's 8 experts and gpt-oss with 2 of its 4, as those routes were
// recorded; published hit rates of Qwen3-30B with 8 (a repetitive chat), Qwen3.6-35B, GLM-5.2 and Qwen3.5-397B with 10
// and with 4; routes of the embedded model. Qwen3.5-122B has no data and borrows the row of its smaller sibling of the
// same 256 experts; models with a sigmoid router and balancing biases borrow that of Kimi-Linear, which routes alike.
constexpr std::array kProfiles = {
    //             name               layers experts k   popularity fast tokens slow tokens
    RoutingProfile{"qwen3-30b", 48, 128, 6, 1.34F, .68F, 1.2F, .78F, 8},
    RoutingProfile{"qwen3-30b-chat", 48, 128, 8, 2.10F, 1.08F, 1.4F, 1.09F, 5},
    RoutingProfile{"qwen3.5-35b", 40, 256, 8, 1.30F, .35F, 3.0F, 1.22F, 7},
    RoutingProfile{"qwen3.5-122b", 48, 256, 8, 1.30F, .35F, 3.0F, 1.22F, 7},
    RoutingProfile{"qwen3.5-397b", 60, 512, 10, .48F, .57F, .6F, 1.07F, 4},
    RoutingProfile{"qwen3.5-397b-k4", 60, 512, 4, .99F, .31F, .4F, 1.52F, 12},
    RoutingProfile{"gemma-4-26b", 30, 128, 6, 1.01F, .24F, 2.9F, .74F, 46},
    RoutingProfile{"gpt-oss-120b", 36, 128, 2, 1.08F, .34F, 1.5F, 1.31F, 16},
    RoutingProfile{"kimi-linear-48b", 26, 256, 8, 1.01F, .98F, 1.9F, .87F, 31},
    RoutingProfile{"deepseek-v3", 58, 256, 8, 1.01F, .98F, 1.9F, .87F, 31},
    RoutingProfile{"nemotron-3-nano-30b", 23, 128, 6, 1.01F, .98F, 1.9F, .87F, 31},
    RoutingProfile{"nemotron-3-super-120b", 40, 512, 22, 1.01F, .98F, 1.9F, .87F, 31},
    RoutingProfile{"glm-5.2", 75, 256, 8, .92F, .94F, 2.5F, .62F, 9},
    RoutingProfile{"olmoe", 16, 64, 8, 1.04F, 1.45F, 2.9F, .17F, 12},
    RoutingProfile{"inkwell-44m", 8, 32, 4, .43F, 1.22F, 1.0F, .16F, 9},
};

std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

/// Two independent standard normal numbers (G. E. P. Box and M. E. Muller, 1958).
std::array<float, 2> next_normals(std::uint64_t& state) {
  const std::uint64_t bits = next_random(state);
  const double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1p-32;  // in (0, 1)
  const double angle = 2 * std::numbers::pi * static_cast<double>(bits & 0xffffffff) * 0x1p-32;
  const double radius = std::sqrt(-2 * std::log(u));
  return {static_cast<float>(radius * std::cos(angle)), static_cast<float>(radius * std::sin(angle))};
}

void fill_normal(std::span<float> values, std::uint64_t& state) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const std::array<float, 2> pair = next_normals(state);
    values[i] = pair[0];
    if (i + 1 < values.size()) values[i + 1] = pair[1];
  }
}

}  // namespace

std::span<const RoutingProfile> routing_profiles() { return kProfiles; }

const RoutingProfile& routing_profile(std::string_view name, std::string_view what) {
  std::vector<std::string_view> known;
  for (const RoutingProfile& profile : kProfiles) {
    if (profile.name == name) return profile;
    known.push_back(profile.name);
  }
  fail_usage("{}: no routing profile is named '{}'; did you mean {}? There are: {}", what, printable(name),
             nearest(name, known), fmt::join(known, ", "));
}

RouteGenerator::RouteGenerator(const RoutingProfile& profile, int layers, int experts, int top_k, std::uint64_t seed)
    : profile_(profile),
      experts_(experts),
      top_k_(top_k),
      fast_memory_(std::exp(-1 / profile.fast_tokens)),
      slow_memory_(std::exp(-1 / profile.slow_tokens)),
      layers_(static_cast<std::size_t>(layers)),
      order_(static_cast<std::size_t>(experts)),
      guessed_(order_.size()) {
  assert(layers >= 0 && top_k >= 1 && top_k <= experts);
  const auto count = static_cast<std::size_t>(experts);
  for (Layer& layer : layers_) {
    layer.random = next_random(seed);
    std::uint64_t other = ~layer.random;
    layer.guess_seed = next_random(other);
    for (std::vector<float>* values : {&layer.popularity, &layer.fast, &layer.slow}) {
      values->resize(count);
      fill_normal(*values, layer.random);
    }
    for (float& value : layer.popularity) value *= profile.popularity;
    layer.scores.resize(count);
    layer.upcoming.resize(count);
  }
}

/// The next token's scores.
void RouteGenerator::move(Layer& layer, std::vector<float>& scores) const {
  const float fast_new = std::sqrt(1 - fast_memory_ * fast_memory_);
  const float slow_new = std::sqrt(1 - slow_memory_ * slow_memory_);
  fill_normal(scores, layer.random);
  for (std::size_t e = 0; e < scores.size(); ++e) {
    const std::array<float, 2> fresh = next_normals(layer.random);
    layer.fast[e] = fast_memory_ * layer.fast[e] + fast_new * fresh[0];
    layer.slow[e] = slow_memory_ * layer.slow[e] + slow_new * fresh[1];
    scores[e] += layer.popularity[e] + profile_.fast * layer.fast[e] + profile_.slow * layer.slow[e];
  }
}

/// The ids with the highest scores, in descending order.
void RouteGenerator::choose(std::span<const float> scores, std::span<int> ids) {
  std::iota(order_.begin(), order_.end(), 0);
  const auto score = [&](int id) { return scores[static_cast<std::size_t>(id)]; };
  std::partial_sort(order_.begin(), order_.begin() + top_k_, order_.end(),
                    [&](int a, int b) { return score(a) > score(b) || (score(a) == score(b) && a < b); });
  std::copy_n(order_.begin(), top_k_, ids.begin());
}

void RouteGenerator::route(int layer_index, std::span<int> ids, std::span<float> weights) {
  assert(ids.size() == static_cast<std::size_t>(top_k_) && weights.size() == ids.size());
  Layer& layer = layers_[static_cast<std::size_t>(layer_index)];
  if (std::exchange(layer.has_upcoming, false)) {
    std::swap(layer.scores, layer.upcoming);
  } else {
    move(layer, layer.scores);
  }
  ++layer.routed;
  choose(layer.scores, ids);
  const auto score = [&](int id) { return layer.scores[static_cast<std::size_t>(id)]; };
  for (std::size_t j = 0; j < ids.size(); ++j) weights[j] = std::exp(score(ids[j]) - score(ids[0]));
  const float sum = std::accumulate(weights.begin(), weights.end(), 0.0F);
  for (float& weight : weights) weight /= sum;
}

void RouteGenerator::guess(int layer_index, float noise, std::span<int> ids) {
  assert(ids.size() == static_cast<std::size_t>(top_k_));
  Layer& layer = layers_[static_cast<std::size_t>(layer_index)];
  if (!std::exchange(layer.has_upcoming, true)) move(layer, layer.upcoming);
  // Its own random numbers for each route, so that a guess depends on nothing but the route.
  std::uint64_t which = layer.guess_seed + layer.routed;
  std::uint64_t random = next_random(which);
  fill_normal(guessed_, random);
  for (std::size_t e = 0; e < guessed_.size(); ++e) guessed_[e] = layer.upcoming[e] + noise * guessed_[e];
  choose(guessed_, ids);
}

cache::RouteLog generate_log(RouteGenerator& generator, int tokens) {
  cache::RouteLog log(generator.layers(), generator.experts());
  std::vector<int> ids(static_cast<std::size_t>(generator.top_k()));
  std::vector<float> weights(ids.size());
  std::vector<std::uint16_t> narrow(ids.size());
  for (int token = 0; token < tokens; ++token) {
    for (int layer = 0; layer < generator.layers(); ++layer) {
      generator.route(layer, ids, weights);
      std::copy(ids.begin(), ids.end(), narrow.begin());
      log.add(layer, cache::Phase::decode, static_cast<std::uint64_t>(token), narrow);
    }
  }
  return log;
}

}  // namespace sluice::model
