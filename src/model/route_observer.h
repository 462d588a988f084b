// How a caller watches the routing of a model.
#pragma once

#include <functional>
#include <span>

namespace sluice::model {

/// Sees every routing decision: MoE block, row of the pass, chosen ids and their weights [top_k], ids in descending
/// order of preference.
using RouteObserver =
    std::function<void(int moe_layer, int row, std::span<const int> ids, std::span<const float> weights)>;

}  // namespace sluice::model
