// Routes from elsewhere than a model's routers, and guesses at them: those that a lookahead would make, right as often
// as asked for. Guesses never change a route, and the same route is guessed alike whether others were guessed or not.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "model/route_observer.h"
#include "model/routes/route_generator.h"
#include "model/routes/route_trace.h"

namespace sluice::model {

/// The share of the chosen experts that guesses find, when nobody says: 0.72 to 0.89 are reported for Qwen3-30B,
/// Qwen3.6-35B and GLM-5.2 where the next layer's router guesses (Helldez/BigMoeOnEdge, expert-prediction.md; colibri).
inline constexpr double kLookaheadRecall = 0.8;

/// What a model wants routed.
struct RouteShape {
  int layers = 0;   // MoE blocks
  int experts = 0;  // per block
  int top_k = 0;
};

/// Stands in for the routers of a model and for its lookahead. Used by one thread.
struct RouteSource {
  RouteOverride route;
  GuessOverride guess;
  /// Draws the next `rows` rows of every layer and the guesses at them now, so that asking for them takes no time.
  std::function<void(int rows)> draw;
};

/// Routes of a generator. `recall` in [0, 1] is the share of the chosen experts that guesses find on average; see
/// guess_noise.h.
RouteSource generated_routes(const RoutingProfile& profile, const RouteShape& shape, std::uint64_t seed, double recall);

/// Recorded rows of each layer, one after the other; the first again after the last. A guess keeps each expert of the
/// row with probability `recall`, at its rank, and has some other expert in place of the rest. Throws Error naming
/// `file` if the trace does not fit the model.
RouteSource recorded_routes(RouteTrace trace, const std::string& file, const RouteShape& shape, std::uint64_t seed,
                            double recall);

/// How good guesses were, of the routes that had been guessed.
struct GuessCounts {
  std::uint64_t chosen = 0;  // experts of these routes
  std::uint64_t found = 0;   // those that had been among the guessed ones
};

/// The same source, that counts into `counts`, which outlives it.
RouteSource counted(RouteSource source, const RouteShape& shape, GuessCounts& counts);

}  // namespace sluice::model
