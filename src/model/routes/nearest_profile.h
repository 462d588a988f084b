// Which routing profile stands in for a model that has no recorded routes.
#pragma once

#include <string_view>

#include "model/routes/route_generator.h"

namespace sluice::model {

/// The profile of the same numbers of layers and experts, if there is one. Else that of the nearest relative: of those
/// whose name shares the longest beginning (3 letters or more) with the model's type, the one whose numbers of experts
/// and layers are nearest by ratio; of all profiles if none shares one. Experts count four times as much as layers,
/// because hit rates follow from them. Of equals the first, which is the one fitted to recorded routes.
const RoutingProfile& nearest_profile(std::string_view model_type, int layers, int experts);

}  // namespace sluice::model
