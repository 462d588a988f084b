#include "cache/mapped_experts.h"

#include <algorithm>

namespace sluice::cache {

MappedExperts::MappedExperts(std::span<const LayerExperts> layers, const stream::MappedFiles& files) {
  std::size_t most_experts = 0;
  for (const LayerExperts& records : layers) {
    Layer& layer = layers_.emplace_back(Layer{static_cast<std::size_t>(records.parts), {}});
    layer.parts.reserve(records.slices.size());
    for (const Slice& slice : records.slices) layer.parts.push_back(files.at(slice.file, slice.offset, slice.bytes));
    most_experts = std::max(most_experts, static_cast<std::size_t>(records.experts));
  }
  found_.reserve(most_experts);
}

std::span<const ReadyExpert> MappedExperts::find(int layer, std::span<const int> ids) {
  const Layer& in = layers_[static_cast<std::size_t>(layer)];
  found_.clear();
  for (const int id : ids) {
    const auto first = static_cast<std::size_t>(id) * in.parts_per_expert;
    found_.push_back({.id = id, .hit = true, .parts = std::span(in.parts).subspan(first, in.parts_per_expert)});
  }
  return found_;
}

}  // namespace sluice::cache
