// Routes as a real model makes them, without the model: to measure caches, never to write text.
//
// Every expert e of a layer has a score that moves from token to token,
//
//   z_e(t) = popularity_e + fast * u_e(t) + slow * w_e(t) + n_e(t),
//
// and the top_k highest are chosen; their softmax gives the weights. Popularity is normal with a spread of its own, u
// and w are normal AR(1) processes of unit variance that forget with their time constants (in tokens), n is new for
// every token. The parameters are fitted to the hit rates of LRU and to the share of experts that the next token uses
// again, on recorded routes where there are some and on published hit rates elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cache/route_log.h"

namespace sluice::model {

/// A model's routing: its shape, and how its scores move.
struct RoutingProfile {
  std::string_view name;
  int layers = 0;   // MoE layers
  int experts = 0;  // per layer
  int top_k =
      0;  // of the routes that the parameters were fitted to; see route_generator.cc where it is not the model's
  float popularity = 0;
  float fast = 0;
  float fast_tokens = 0;
  float slow = 0;
  float slow_tokens = 0;
};

std::span<const RoutingProfile> routing_profiles();

/// Throws UsageError naming `what` (a flag) and the nearest name.
const RoutingProfile& routing_profile(std::string_view name, std::string_view what);

/// Used by one thread. Layers are independent of each other and of the order in which they are asked.
class RouteGenerator {
 public:
  /// The shape is the caller's, the movement the profile's. top_k <= experts.
  RouteGenerator(const RoutingProfile& profile, int layers, int experts, int top_k, std::uint64_t seed);
  RouteGenerator(const RoutingProfile& profile, std::uint64_t seed)
      : RouteGenerator(profile, profile.layers, profile.experts, profile.top_k, seed) {}

  int layers() const { return static_cast<int>(layers_.size()); }
  int experts() const { return experts_; }
  int top_k() const { return top_k_; }

  /// The next token's route in one layer: ids [top_k] in descending order of score, weights [top_k] that sum to 1. The
  /// same seed gives the same routes.
  void route(int layer, std::span<int> ids, std::span<float> weights);

  /// A guess at the next token's route: ids [top_k], the highest of z + N(0, noise^2) in descending order. Changes no
  /// route; the same route is guessed alike however often.
  void guess(int layer, float noise, std::span<int> ids);

  /// The scores z [experts] behind the last route of a layer.
  std::span<const float> scores(int layer) const { return layers_[static_cast<std::size_t>(layer)].scores; }

 private:
  struct Layer {
    std::uint64_t random;           // SplitMix64
    std::vector<float> popularity;  // [experts], scaled
    std::vector<float> fast, slow;  // [experts], unit variance
    std::vector<float> scores;      // [experts]
    std::vector<float> upcoming;    // [experts] scores of the next route, if it was guessed
    bool has_upcoming = false;
    std::uint64_t guess_seed;
    std::uint64_t routed = 0;
  };

  void move(Layer& layer, std::vector<float>& scores) const;
  void choose(std::span<const float> scores, std::span<int> ids);

  RoutingProfile profile_;
  int experts_;
  int top_k_;
  float fast_memory_, slow_memory_;  // AR(1) coefficients
  std::vector<Layer> layers_;
  std::vector<int> order_;      // scratch
  std::vector<float> guessed_;  // scratch
};

/// `tokens` decode steps of all layers of a generator.
cache::RouteLog generate_log(RouteGenerator& generator, int tokens);

}  // namespace sluice::model
