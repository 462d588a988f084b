// A routed expert as the cache knows it: a record of byte ranges. No arithmetic, no names.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::cache {

/// One part of an expert (say the scales of its up projection): a contiguous range of a checkpoint file.
struct Slice {
  int file = 0;              // Reader's file index
  std::uint64_t offset = 0;  // bytes, any alignment
  std::uint64_t bytes = 0;
};

/// The experts of one MoE layer: `experts` records of `parts` slices each. Part p has the same size in every expert.
struct LayerExperts {
  int experts = 0;
  int parts = 0;
  std::vector<Slice> slices;  // [experts, parts]

  const Slice& slice(int expert, int part) const {
    return slices[static_cast<std::size_t>(expert) * static_cast<std::size_t>(parts) + static_cast<std::size_t>(part)];
  }
};

}  // namespace sluice::cache
