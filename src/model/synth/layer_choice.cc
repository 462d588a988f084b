#include "model/synth/layer_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/error.h"

namespace sluice::model::synth {
namespace {

bool is_dense(const LayerKinds& kinds) { return std::find(kinds.begin(), kinds.end(), "dense") != kinds.end(); }

}  // namespace

std::vector<int> choose_layers(std::span<const LayerKinds> layers, int count, std::string_view model) {
  const int all = static_cast<int>(layers.size());
  if (count > all) fail_usage("--layers: {} are more than the {} of {}", count, all, model);
  std::set<std::string> kinds;
  std::vector<int> kept;    // those that bring a new kind
  std::vector<int> spares;  // the others, then the rest of the dense prefix
  std::vector<int> prefix;
  bool in_prefix = true;
  for (int l = 0; l < all; ++l) {
    const LayerKinds& own = layers[static_cast<std::size_t>(l)];
    in_prefix = in_prefix && is_dense(own);
    const std::size_t known = kinds.size();
    kinds.insert(own.begin(), own.end());
    (kinds.size() > known ? kept : in_prefix ? prefix : spares).push_back(l);
  }
  if (static_cast<std::size_t>(count) < kept.size()) {
    fail_usage("--layers: {} cannot hold one layer of every kind of {} ({}); expected {} or more", count, model,
               fmt::join(kinds, ", "), kept.size());
  }
  spares.insert(spares.end(), prefix.begin(), prefix.end());
  kept.insert(kept.end(), spares.begin(), spares.begin() + (count - static_cast<int>(kept.size())));
  std::sort(kept.begin(), kept.end());
  return kept;
}

}  // namespace sluice::model::synth
