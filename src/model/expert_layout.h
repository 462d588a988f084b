// Where the parts of routed experts lie in the checkpoint, and how a slot's parts become matrices again.
#pragma once

#include <array>

#include "cache/expert_cache.h"
#include "cache/expert_record.h"
#include "kernels/matmul.h"
#include "model/quantization.h"
#include "model/spec.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// One projection of the experts of a layer: equal shape and format in all of them.
struct ExpertProjection {
  kernels::Format format;
  int rows = 0;
  int cols = 0;
  int codes = 0;    // index of the part that holds the codes
  int scales = -1;  // likewise, -1 if there is none
  int biases = -1;
};

/// The routed experts of one layer.
struct ExpertLayout {
  int top_k = 0;
  ExpertProjection gate, up, down;
  cache::LayerExperts records;

  /// Matrices of an expert in its slot, or anywhere its parts lie.
  kernels::ExpertViews views(std::span<const std::byte* const> parts) const;
  /// Stored bytes of one expert.
  std::uint64_t expert_bytes() const;
};

/// Finds the experts of a layer, stacked (MLX) or one matrix per expert (Hugging Face), and checks their tensors.
/// Throws Error naming the tensor.
ExpertLayout find_experts(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
                          int hidden);

}  // namespace sluice::model
