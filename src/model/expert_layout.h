// Where the parts of routed experts lie in the checkpoint, and how a slot's parts become matrices again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

/// One part of the experts of a layer, as a tensor of its own where the experts lie one by one.
struct PartTensor {
  std::string name;  // of the tensor; "{}" stands for the expert's number
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // of one expert

  std::string name_of(int expert) const;
};

/// The routed experts of one layer.
struct ExpertLayout {
  int top_k = 0;
  kernels::Activation activation = kernels::Activation::swiglu;
  ExpertProjection gate, up, down;
  std::vector<PartTensor> part_tensors;  // [records.parts]
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
///
/// Stacked experts may always lie one by one too (`sluice pack` writes them so): under the numbered names that the spec
/// has for them, or else with the number before the last word of a path, ".experts.down_proj" as
/// ".experts.{}.down_proj". Their formats are those of the stack's paths in the config.
ExpertLayout find_experts(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
                          int width);

}  // namespace sluice::model
