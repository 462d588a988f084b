// Counts allocations of the whole test program.
#pragma once

#include <cstddef>

namespace sluice::cache {

/// How often operator new was called until now, by any thread.
std::size_t allocation_count();

}  // namespace sluice::cache
