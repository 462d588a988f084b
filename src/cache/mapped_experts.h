// Routed experts that are computed where they lie in mapped files: no slots, nothing to look up, nothing to read.
#pragma once

#include <span>
#include <vector>

#include "cache/expert_cache.h"
#include "cache/expert_record.h"
#include "stream/mapped_files.h"

namespace sluice::cache {

/// Stands in for an ExpertCache whose experts are all resident; what of them is in memory only the kernel knows. Used
/// by one thread; the experts' bytes may be read by any number. The mapping outlives it.
class MappedExperts {
 public:
  /// Throws Error naming the file if a part is not in it.
  MappedExperts(std::span<const LayerExperts> layers, const stream::MappedFiles& files);

  /// The experts of distinct `ids` in that order, until the next call. `slot` and `generation` are 0, `hit` is true. No
  /// allocation in steady state.
  std::span<const ReadyExpert> find(int layer, std::span<const int> ids);

 private:
  struct Layer {
    std::size_t parts_per_expert;
    std::vector<const std::byte*> parts;  // [experts, parts]
  };
  std::vector<Layer> layers_;
  std::vector<ReadyExpert> found_;  // what find() returned last
};

}  // namespace sluice::cache
