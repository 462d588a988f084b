// How many tokens of a prompt are computed at once.
//
// A chunk reads each distinct expert that has no slot once, whatever its size, and multiplies in proportion to it. In
// each MoE layer reads begin when the router has chosen, and only the experts are there to compute meanwhile: a chunk
// is large enough when its experts take longer to multiply than to read.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace sluice::model {

/// Tokens of a chunk when nothing asks for more, and what larger ones are multiples of: the batched kernels gain
/// nothing more beyond it.
inline constexpr int kDefaultPrefillChunk = 512;

/// The largest chunk that is chosen: with 512 experts and 10 per token each has 80 tokens by then, and scratch memory
/// is about 1 GB.
inline constexpr int kMostPrefillChunk = 4096;

/// A chunk is large enough when the disk takes at most this share of the time of the multiplications. Not all of it:
/// reads take memory bandwidth and a part of the processor, and the first expert of a layer has nothing to hide behind
/// (docs/performance.md has the measurement).
inline constexpr double kMostDiskShare = 0.5;

/// One MoE layer.
struct PrefillLayer {
  int experts = 0;
  int top_k = 0;
  int slots = 0;                     // up to `experts`
  std::uint64_t read_bytes = 0;      // of one expert, aligned windows included
  std::uint64_t expert_weights = 0;  // each is one multiplication for a token
  std::uint64_t shared_weights = 0;  // of the shared expert, likewise
};

struct PrefillRates {
  double disk = 0;      // bytes per second; 0 unknown
  double multiply = 0;  // multiplications per second; 0 unknown
};

/// The share of E experts that T tokens with k each use, 1 - (1 - k / E)^T on average: what routers without preferences
/// would, and more than real ones do.
double used_share(int experts, int top_k, int tokens);

/// What the experts of a chunk take, all layers.
struct PrefillCost {
  double disk_seconds = 0;
  double multiply_seconds = 0;

  bool hides_disk() const { return disk_seconds <= kMostDiskShare * multiply_seconds; }
};

/// Each layer reads used_share() of the experts that have no slot. Rates are known.
PrefillCost prefill_cost(std::span<const PrefillLayer> layers, const PrefillRates& rates, int tokens);

/// Why a chunk has the size it has.
enum class PrefillChunkReason : std::uint8_t {
  given,         // asked for, or what memory or the context leave of it
  all_resident,  // every expert has a slot: nothing is read
  unknown,       // rates are not known
  disk_hidden,   // the smallest that hides the disk
  most,          // no size that may be chosen hides it: the largest of them
};

struct PrefillChunk {
  int tokens = kDefaultPrefillChunk;
  PrefillChunkReason reason = PrefillChunkReason::given;
  PrefillCost cost;  // of `tokens`; 0 if unknown
};

/// For people: "auto: of a chunk's time the disk needs 1.1 s and multiplication 1.3 s".
std::string to_string(const PrefillChunk& chunk);

/// The smallest multiple of kDefaultPrefillChunk that hides the disk, up to `context` and kMostPrefillChunk, else the
/// largest of those; kDefaultPrefillChunk, or the context if that is less, where nothing is read or rates are not
/// known. Sizes that `affordable` refuses end the search; it is asked in ascending order, from twice the default on.
PrefillChunk choose_prefill_chunk(std::span<const PrefillLayer> layers, const PrefillRates& rates, int context,
                                  const std::function<bool(int tokens)>& affordable);

}  // namespace sluice::model
