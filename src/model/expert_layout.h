// Where the parts of routed experts lie in the checkpoint, and how a slot's parts become matrices again.
#pragma once

#include "cache/expert_cache.h"
#include "cache/expert_record.h"
#include "kernels/matmul.h"
#include "model/matrix_tensors.h"
#include "model/quantization.h"
#include "model/spec.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// One projection of the experts of a layer: equal shape and format in all of them. Its rows are every `row_step`-th
/// of the stored ones, from `first_row` on: gate and up may lie in one matrix.
struct ExpertProjection {
  kernels::Format format;
  int rows = 0;  // 0: there is no such projection
  int cols = 0;
  int stored_rows = 0;
  int first_row = 0;
  int row_step = 1;
  int codes = -1;  // index of the part that holds them, -1 if there is none
  int scales = -1;
  int biases = -1;
  int bias = -1;  // of the Linear layer
  DType bias_type = DType::f32;
};

/// The routed experts of one layer.
struct ExpertLayout {
  int top_k = 0;
  kernels::Activation activation = kernels::Activation::swiglu;
  ExpertProjection gate, up, down;
  cache::LayerExperts records;

  /// Matrices of an expert in its slot, or anywhere its parts lie.
  kernels::ExpertViews views(std::span<const std::byte* const> parts) const;
  /// Stored bytes of one expert.
  std::uint64_t expert_bytes() const;
  /// Weights of one expert: multiplications that a token takes.
  std::uint64_t weights() const;
};

/// Finds the experts of a layer in the first of its layouts that the checkpoint has, and checks their tensors. `width`
/// is what goes in and comes out: hidden, or the latent. Throws Error naming the tensor.
ExpertLayout find_experts(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
                          int width);

}  // namespace sluice::model
