// The registry of model families. A new one is a file beside this that builds a ModelSpec, and one line in
// families.cc.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "model/config.h"
#include "model/spec.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// Looks up a tensor of the checkpoint; null if there is none. Some families publish several layouts, which only the
/// names and shapes of tensors tell apart.
using TensorLookup = std::function<const stream::TensorInfo*(std::string_view name)>;

struct Family {
  std::string_view model_type;  // as config.json names it
  /// Throws Error naming the key for anything in the config that this program would have to approximate.
  ModelSpec (*build)(const Config& config, const TensorLookup& tensors);
};

std::span<const Family> families();

/// The spec of a config's model. Throws Error naming the nearest known model_type when it is unknown.
ModelSpec build_spec(const Config& config, const TensorLookup& tensors);

}  // namespace sluice::model
