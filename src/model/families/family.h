// The registry of model families. A new one is a file beside this that builds a ModelSpec, and one line in
// families.cc.
#pragma once

#include <span>
#include <string_view>

#include "model/config.h"
#include "model/spec.h"

namespace sluice::model {

struct Family {
  std::string_view model_type;  // as config.json names it
  /// Throws Error naming the key for anything in the config that this program would have to approximate.
  ModelSpec (*build)(const Config& config);
};

std::span<const Family> families();

/// The spec of a config's model. Throws Error naming the nearest known model_type when it is unknown.
ModelSpec build_spec(const Config& config);

}  // namespace sluice::model
