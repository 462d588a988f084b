// How wrong guesses at generated routes have to be to be as good as those of a real model's lookahead.
#pragma once

#include "model/routes/route_generator.h"

namespace sluice::model {

/// The share of the chosen experts that RouteGenerator::guess() finds with this noise: the mean over the next `routes`
/// routes, layer after layer. Takes a copy, so that those routes are still to come.
double guess_recall(RouteGenerator generator, float noise, int routes);

/// The noise with which guess_recall() is `recall`, in [0, 1], within 0.01, found by bisection. Where even blind
/// guesses find more, because a token uses most of the experts: so much noise that they are blind.
float guess_noise(const RouteGenerator& generator, double recall);

}  // namespace sluice::model
