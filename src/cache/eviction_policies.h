// The registered eviction policies, one file each. Only the registration in eviction_policy.cc needs this list.
#pragma once

#include <memory>

#include "cache/eviction_policy.h"

namespace sluice::cache {

/// Evicts the expert with the lowest exponentially decayed number of lookups (decayed_frequency.cc).
std::unique_ptr<EvictionPolicy> make_decayed_frequency(int experts);

/// Evicts the expert whose last lookup is the longest ago (lru.cc).
std::unique_ptr<EvictionPolicy> make_lru(int experts);

}  // namespace sluice::cache
