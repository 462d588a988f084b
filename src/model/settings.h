// What a caller may set when a model is loaded. Plain values: flags and environment variables are the tools' concern.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "cache/lookahead.h"
#include "kernels/isa.h"

namespace sluice::model {

/// How the routed experts of a layer are computed. Every path gives the same bits.
enum class MoePath : std::uint8_t {
  automatic,      // fused when one token's experts are all resident, else stacked
  fused,          // one fork-join for the whole layer; stacked where experts still have to be read
  stacked,        // one dispatch for gate+up, one for down
  stacked_split,  // one dispatch each for gate, up and down
  per_expert,     // one dispatch per expert and projection: the baseline
};

struct RuntimeSettings {
  std::optional<int> cache_slots;       // expert slots per MoE layer; default: what memory allows
  std::optional<std::uint64_t> memory;  // bytes the process may use; default: what the machine has, less a reserve
  int threads = 0;                      // 0: the CPUs this process may use
  int ctx_size = 0;                     // positions; 0: min(the model's, 8192)
  std::string io;                       // "uring", "pread", "mmap"; empty: the best that works here
  std::string policy = "decay";         // eviction, see cache/eviction_policy.h
  cache::LookaheadMode prefetch = cache::LookaheadMode::automatic;  // reading experts before they are asked for
  std::filesystem::path heat;  // experts used by earlier runs, see heat_file.h; empty or missing: none
  MoePath moe_path = MoePath::automatic;
  kernels::ActivationKind activations = kernels::ActivationKind::int16;
  std::optional<DType>
      cache_type;             // of keys and values: f16, bf16, f32 or i8 (8 bits); default: see default_cache_type()
  int prefill_chunk = 0;      // prompt tokens computed at once; 0: see ModelPlan::choose_chunk()
  int experts_per_token = 0;  // 0: the model's. Anything else changes the model, and is named in the output
  std::filesystem::path rates_file;  // where rates of this machine are kept, see rates_cache.h; empty: nowhere
  std::string isa;                   // forces an instruction set; empty: the fastest
};

/// `settings` with a slot for every expert instead of what they say of memory: a plan that is not to run never fails
/// for want of it.
inline RuntimeSettings all_resident(RuntimeSettings settings = {}) {
  settings.memory.reset();
  settings.cache_slots = std::numeric_limits<int>::max();
  return settings;
}

}  // namespace sluice::model
