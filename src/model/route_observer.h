// How a caller watches the routing of a model, or replaces it.
#pragma once

#include <functional>
#include <span>

#include "cache/phase.h"

namespace sluice::model {

/// Sees every routing decision: phase of the pass, MoE block, row of the pass, chosen ids and their weights [top_k],
/// ids in descending order of preference.
using RouteObserver = std::function<void(cache::Phase phase, int moe_layer, int row, std::span<const int> ids,
                                         std::span<const float> weights)>;

/// Replaces a routing decision: MoE block, row of the pass, ids and weights [top_k] to overwrite. The ids are distinct.
using RouteOverride = std::function<void(int moe_layer, int row, std::span<int> ids, std::span<float> weights)>;

/// Replaces what is guessed of a routing decision before the router has run: MoE block, row of the pass, ids [top_k] to
/// overwrite, in descending order of preference. The ids are distinct. Called before the RouteOverride of that block in
/// the same pass, or not at all.
using GuessOverride = std::function<void(int moe_layer, int row, std::span<int> ids)>;

}  // namespace sluice::model
