// One sequence of tokens and all the state a model keeps for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/memory.h"
#include "kernels/attention.h"
#include "kernels/recurrent.h"

namespace sluice::model {

/// What a session has to keep.
struct SessionShape {
  /// Keys and values of one attention layer (or one of the parts that latent attention keeps).
  struct Cache {
    kernels::KvShape shape;
    int window = 0;  // > 0: no token sees more positions than that
  };
  /// One recurrent layer: floats of kernels::RecurrentState.
  struct State {
    std::size_t conv = 0;
    std::size_t memory = 0;
  };
  std::vector<Cache> caches;
  std::vector<State> states;
  int context = 0;  // positions at most
  int chunk = 1;    // tokens appended at once, at most

  /// Blocks of a cache that are kept: all, or a ring of those that a chunk can still see.
  int kept_blocks(const Cache& cache) const;
  /// Bytes that do not grow: recurrent states and rings.
  std::uint64_t fixed_bytes() const;
  /// Bytes at `positions` positions: what the memory budget counts.
  std::uint64_t bytes(int positions) const;
};

/// A copy of a session's state at some position, to go back to.
struct SessionSnapshot {
  std::vector<int> tokens;
  std::vector<std::byte> kv;     // the cache blocks in use, one after the other
  std::vector<std::byte> fixed;  // recurrent states and rings
  std::optional<std::uint64_t> rng_state;
};

/// Owns the key-value caches, the recurrent states and the random state of one sequence. The caches grow by one block
/// of kKvBlock positions for all layers at a time, so a decode step allocates only when a block is full; those of
/// layers with a window are rings. Used by one thread at a time; several sessions may take part in one forward pass.
class Session {
 public:
  explicit Session(SessionShape shape);

  int position() const { return static_cast<int>(tokens_.size()); }
  int context() const { return shape_.context; }
  std::span<const int> tokens() const { return tokens_; }

  /// Makes room for `tokens`, at most shape.chunk of them, and appends them; the forward pass then stores their keys
  /// and values and advances the recurrent states. Throws Error if the context has no room for them.
  void append(std::span<const int> tokens);

  /// Forgets what lies behind the last position at or before `position` that can be restored, and returns it. That is
  /// `position` itself, unless recurrent states or overwritten rings stand against it: then the last checkpoint at or
  /// before it, or 0. 0 <= position <= position().
  int truncate(int position);
  /// Keeps a copy of what truncate() could not restore at the current position: fixed_bytes().
  void checkpoint();

  SessionSnapshot save() const;
  /// Throws Error if the snapshot is of a session of another shape.
  void restore(const SessionSnapshot& snapshot);

  /// Cache blocks of one attention layer, in order of position; those that a ring no longer holds have become others.
  const std::byte* const* blocks(int cache) const { return blocks_[static_cast<std::size_t>(cache)].data(); }
  /// The block of `cache` that holds `position`, to store into.
  std::byte* block(int cache, int position);
  /// The state of one recurrent layer, to advance.
  kernels::RecurrentState state(int index) const;

  /// State of the sampler's random numbers; none before the first generation, which then starts from its seed.
  std::optional<std::uint64_t> rng_state;

  /// Bytes held, without checkpoints.
  std::uint64_t bytes() const;

 private:
  struct Checkpoint {
    int position;
    std::vector<std::byte> fixed;
  };
  void grow();
  bool can_restore(int position) const;

  SessionShape shape_;
  std::vector<std::size_t> state_offset_;  // of each recurrent state in fixed_
  std::vector<std::size_t> cache_offset_;  // of each cache: its block inside a chunk, or its ring in fixed_
  std::size_t chunk_bytes_ = 0;            // one block of every cache that keeps all
  std::size_t state_bytes_ = 0;            // of all recurrent states, at the start of fixed_
  std::vector<int> tokens_;
  Buffer fixed_;
  std::vector<Buffer> chunks_;                   // [blocks], chunk_bytes_ each
  std::vector<std::vector<std::byte*>> blocks_;  // [caches][blocks], pointers into chunks_ or fixed_
  std::vector<Checkpoint> checkpoints_;          // ascending
};

}  // namespace sluice::model
