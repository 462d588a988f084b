// One sequence of tokens and all the state a model keeps for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/memory.h"
#include "kernels/attention.h"

namespace sluice::model {

/// A copy of a session's state at some position, to go back to.
struct SessionSnapshot {
  std::vector<int> tokens;
  std::vector<std::byte> kv;  // the cache blocks in use, one after the other
  std::optional<std::uint64_t> rng_state;
};

/// Owns the key-value cache and the random state of one sequence. The cache grows by one block of kKvBlock positions
/// for all layers at a time, so a decode step allocates only when a block is full. Used by one thread at a time;
/// several sessions may take part in one forward pass.
class Session {
 public:
  /// `layers`: shape of each attention layer's cache; `context`: positions at most.
  Session(std::vector<kernels::KvShape> layers, int context);

  int position() const { return static_cast<int>(tokens_.size()); }
  int context() const { return context_; }
  std::span<const int> tokens() const { return tokens_; }

  /// Makes room for `tokens` and appends them; their keys and values are then stored by the forward pass.
  /// Throws Error if the context has no room for them.
  void append(std::span<const int> tokens);
  /// Forgets everything from `position` on. 0 <= position <= position().
  void truncate(int position);

  SessionSnapshot save() const;
  /// Throws Error if the snapshot is of a session of another shape.
  void restore(const SessionSnapshot& snapshot);

  /// Cache blocks of one attention layer, in order of position.
  const std::byte* const* blocks(int layer) const { return blocks_[static_cast<std::size_t>(layer)].data(); }
  /// The block of `layer` that holds `position`, to store into.
  std::byte* block(int layer, int position);

  /// State of the sampler's random numbers; none before the first generation, which then starts from its seed.
  std::optional<std::uint64_t> rng_state;

  /// Bytes of cache for `positions` positions of such layers: what the memory budget counts.
  static std::uint64_t kv_bytes(std::span<const kernels::KvShape> layers, int positions);
  std::uint64_t kv_bytes() const;

 private:
  void grow();

  std::vector<kernels::KvShape> layers_;
  std::vector<std::size_t> layer_offset_;  // bytes of each layer's block inside a chunk
  std::size_t chunk_bytes_ = 0;            // one block of every layer
  int context_ = 0;
  std::vector<int> tokens_;
  std::vector<Buffer> chunks_;                   // [blocks], chunk_bytes_ each
  std::vector<std::vector<std::byte*>> blocks_;  // [layers][blocks], pointers into chunks_
};

}  // namespace sluice::model
