// What a lookup belongs to.
#pragma once

#include <cstdint>

namespace sluice::cache {

/// Decode and prefill are counted apart.
enum class Phase : std::uint8_t { prefill, decode };

}  // namespace sluice::cache
