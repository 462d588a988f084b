#include "model/expert_layout.h"

#include <fmt/core.h>

#include <utility>

#include "base/error.h"

namespace sluice::model {

using kernels::MatrixView;
using stream::TensorInfo;

namespace {

/// One column of slices: part p of every expert.
using PartSlices = std::vector<cache::Slice>;

/// Expert e of a stacked tensor [E, ...] is the contiguous e-th of E equal ranges.
PartSlices split_stack(const TensorInfo& tensor, int experts) {
  PartSlices slices;
  const std::uint64_t bytes = tensor.bytes / static_cast<std::uint64_t>(experts);
  for (int e = 0; e < experts; ++e) {
    slices.push_back({tensor.file, tensor.offset + static_cast<std::uint64_t>(e) * bytes, bytes});
  }
  return slices;
}

/// Adds the parts of one projection to `parts`; `tensors` holds either one stack or one entry per expert.
ExpertProjection add_projection(const std::vector<MatrixTensors>& tensors, int experts, int rows, int cols,
                                std::vector<PartSlices>& parts) {
  ExpertProjection projection{tensors.front().format, rows, cols, 0, -1, -1};
  const auto add = [&](const TensorInfo* MatrixTensors::*which) {
    if (tensors.front().*which == nullptr) return -1;
    if (tensors.size() == 1) {
      parts.push_back(split_stack(*(tensors.front().*which), experts));
    } else {
      PartSlices& slices = parts.emplace_back();
      for (const MatrixTensors& one : tensors)
        slices.push_back({(one.*which)->file, (one.*which)->offset, (one.*which)->bytes});
    }
    return static_cast<int>(parts.size()) - 1;
  };
  projection.codes = add(&MatrixTensors::codes);
  projection.scales = add(&MatrixTensors::scales);
  projection.biases = add(&MatrixTensors::biases);
  return projection;
}

MatrixView view_of(const ExpertProjection& p, std::span<const std::byte* const> parts) {
  const auto part = [&](int index) { return index < 0 ? nullptr : parts[static_cast<std::size_t>(index)]; };
  return kernels::make_view(p.format, p.rows, p.cols, part(p.codes), part(p.scales), part(p.biases));
}

}  // namespace

kernels::ExpertViews ExpertLayout::views(std::span<const std::byte* const> parts) const {
  return {view_of(gate, parts), view_of(up, parts), view_of(down, parts)};
}

std::uint64_t ExpertLayout::expert_bytes() const {
  std::uint64_t bytes = 0;
  for (int part = 0; part < records.parts; ++part) bytes += records.slice(0, part).bytes;
  return bytes;
}

ExpertLayout find_experts(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
                          int hidden) {
  ExpertLayout layout;
  layout.top_k = spec.top_k;
  const bool one_by_one = checkpoint.find(spec.per_expert + ".0.gate_proj.weight") != nullptr;
  std::vector<PartSlices> parts;
  const auto projection = [&](const char* name, int rows, int cols) {
    std::vector<MatrixTensors> tensors;
    if (one_by_one) {
      for (int e = 0; e < spec.experts; ++e) {
        const std::string module = fmt::format("{}.{}.{}", spec.per_expert, e, name);
        tensors.push_back(find_matrix(checkpoint, quantization, module, rows, cols));
        if (tensors.back().format != tensors.front().format) {
          fail("{}: '{}' is {}, but expert 0 of the layer is {}; experts of a layer must share one format",
               checkpoint.directory().string(), module, to_string(tensors.back().format),
               to_string(tensors.front().format));
        }
      }
    } else {
      tensors.push_back(find_matrix(checkpoint, quantization, spec.stacked + "." + name, rows, cols, spec.experts));
    }
    return add_projection(tensors, spec.experts, rows, cols, parts);
  };
  layout.gate = projection("gate_proj", spec.width, hidden);
  layout.up = projection("up_proj", spec.width, hidden);
  layout.down = projection("down_proj", hidden, spec.width);
  if (layout.gate.format != layout.up.format) {
    fail("{}: gate_proj and up_proj of '{}' have different formats ({} and {}), expected the same",
         checkpoint.directory().string(), spec.stacked, to_string(layout.gate.format), to_string(layout.up.format));
  }
  layout.records.experts = spec.experts;
  layout.records.parts = static_cast<int>(parts.size());
  for (int e = 0; e < spec.experts; ++e) {
    for (const PartSlices& part : parts) layout.records.slices.push_back(part[static_cast<std::size_t>(e)]);
  }
  return layout;
}

}  // namespace sluice::model
