// Qwen3, dense and MoE. Configuration keys and tensor names: docs/checkpoint-format.md.
#pragma once

#include "model/config.h"
#include "model/spec.h"

namespace sluice::model {

ModelSpec qwen3_spec(const Config& config);
ModelSpec qwen3_moe_spec(const Config& config);

}  // namespace sluice::model
