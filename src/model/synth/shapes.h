// The models whose shapes can be made.
#pragma once

#include <span>
#include <string_view>

#include "kernels/format.h"

namespace sluice::model::synth {

struct ModelShape {
  std::string_view name;      // as users write it
  std::string_view config;    // config.json without quantization; text part of multimodal models
  kernels::Format published;  // top level of the most used MLX conversion
};

std::span<const ModelShape> model_shapes();

}  // namespace sluice::model::synth
