// Which layers a shallower copy of a model keeps.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "model/synth/family.h"

namespace sluice::model::synth {

/// Ascending indices of `count` layers with at least one of every kind. Otherwise the first ones are kept; of several
/// dense layers at the start only one, as long as there are others. Throws UsageError naming --layers and `model` when
/// `count` is too small for all kinds or more than there are.
std::vector<int> choose_layers(std::span<const LayerKinds> layers, int count, std::string_view model);

}  // namespace sluice::model::synth
