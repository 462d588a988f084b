// The requests a run made of the cache, in order: which experts of which layer in which step. Ids only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/expert_cache.h"

namespace sluice::cache {

/// A sequence of ExpertCache::acquire() calls.
class RouteLog {
 public:
  struct Request {
    int layer = 0;
    Phase phase = Phase::decode;
    std::uint64_t step = 0;              // never goes back
    std::span<const std::uint16_t> ids;  // distinct, ascending
    std::span<const ExpertUse> uses;     // of its last tokens; empty if it is of one
  };

  /// `layers` MoE layers of at most `experts` experts; at most 65,536.
  RouteLog(int layers, int experts) : layers_(layers), experts_(experts) {}

  int layers() const { return layers_; }
  int experts() const { return experts_; }
  std::size_t size() const { return entries_.size(); }
  Request operator[](std::size_t index) const;

  /// Experts of all requests from the `first` (below size()) on, and the uses that are kept with them.
  std::size_t kept(std::size_t first) const {
    return ids_.size() - entries_[first].first_id + uses_.size() - entries_[first].first_use;
  }

  /// Appends a request for the distinct ones among `ids`, which may repeat and come in any order.
  void add(int layer, Phase phase, std::uint64_t step, std::span<const std::uint16_t> ids,
           std::span<const ExpertUse> uses = {});
  /// Forgets the first `count` requests.
  void drop_front(std::size_t count);

 private:
  struct Entry {
    std::uint64_t first_id;
    std::uint64_t first_use;
    std::uint32_t step;
    std::uint16_t layer;
    Phase phase;
  };

  int layers_;
  int experts_;
  std::vector<Entry> entries_;
  std::vector<std::uint16_t> ids_;
  std::vector<ExpertUse> uses_;
};

}  // namespace sluice::cache
