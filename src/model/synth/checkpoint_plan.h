// A synthetic checkpoint, planned in full before its first byte is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/format.h"
#include "model/synth/tensor_plan.h"

namespace sluice::model::synth {

struct SynthOptions {
  std::string like;  // a name of model_shapes()
  std::optional<int> layers;
  // What is not given: as published, if none of the three is; else affine, and what the converter takes with the mode.
  std::optional<kernels::Mode> mode;
  std::optional<int> bits;
  std::optional<int> group_size;
  std::uint64_t seed = 0;
};

struct PlannedFile {
  std::string name;
  std::vector<PlannedTensor> tensors;  // in the order of their data
  std::uint64_t bytes = 0;
};

std::vector<stream::TensorHeader> headers_of(const PlannedFile& file);

struct CheckpointPlan {
  std::string config;  // config.json
  std::string index;   // model.safetensors.index.json
  std::vector<PlannedFile> files;
  int layers = 0;
  std::uint64_t seed = 0;

  std::uint64_t bytes() const;  // of all files
  std::size_t tensor_count() const;
};

/// Pure. Throws UsageError naming the flag for options that do not fit the model.
CheckpointPlan plan_checkpoint(const SynthOptions& options);

/// The "quantization" object of a conversion of `config` to `top`, exceptions included.
nlohmann::json quantization_object(const nlohmann::json& config, const kernels::Format& top);

/// All tensors of a config.json that says how it is quantized. `float_type`: of what is not.
std::vector<PlannedTensor> plan_tensors(const nlohmann::json& config, DType float_type);

/// Splits tensors as the MLX converter does: whole tensors in module order into files of at most `max_bytes` of data,
/// in each of which they lie in an order that has nothing to do with their names, as in a hash map.
std::vector<PlannedFile> split_into_files(std::vector<PlannedTensor> tensors, std::uint64_t max_bytes);

}  // namespace sluice::model::synth
