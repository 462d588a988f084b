// How a caller watches the routing of a model, or replaces it.
#pragma once

#include <functional>
#include <span>

namespace sluice::model {

/// Sees every routing decision: MoE block, row of the pass, chosen ids and their weights [top_k], ids in descending
/// order of preference.
using RouteObserver =
    std::function<void(int moe_layer, int row, std::span<const int> ids, std::span<const float> weights)>;

/// Replaces a routing decision: MoE block, row of the pass, ids and weights [top_k] to overwrite. The ids are distinct.
using RouteOverride = std::function<void(int moe_layer, int row, std::span<int> ids, std::span<float> weights)>;

}  // namespace sluice::model
