#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace sluice::model {

using kernels::kKvBlock;

namespace {

/// Layers start on cache lines.
constexpr std::size_t kLayerAlignment = 64;

int blocks_for(int positions) { return (positions + kKvBlock - 1) / kKvBlock; }

std::size_t aligned_block_bytes(const SessionShape::Cache& cache) {
  return round_up(cache.shape.block_bytes(), kLayerAlignment);
}

std::size_t state_bytes(const SessionShape::State& state) {
  return round_up(state.conv * sizeof(float), kLayerAlignment) +
         round_up(state.memory * sizeof(float), kLayerAlignment);
}

bool is_ring(const SessionShape& shape, const SessionShape::Cache& cache) {
  return shape.kept_blocks(cache) < blocks_for(shape.context);
}

std::size_t chunk_bytes(const SessionShape& shape) {
  std::size_t bytes = 0;
  for (const SessionShape::Cache& cache : shape.caches) {
    if (!is_ring(shape, cache)) bytes += aligned_block_bytes(cache);
  }
  return bytes;
}

}  // namespace

int SessionShape::kept_blocks(const Cache& cache) const {
  const int all = blocks_for(context);
  if (cache.window == 0 || cache.window >= context) return all;
  // A chunk is stored before any of it is computed: window + chunk - 1 positions, which may begin inside a block.
  return std::min(all, blocks_for(cache.window + chunk - 1) + 1);
}

std::uint64_t SessionShape::fixed_bytes() const {
  std::uint64_t bytes = 0;
  for (const State& state : states) bytes += state_bytes(state);
  for (const Cache& cache : caches) {
    if (is_ring(*this, cache)) bytes += aligned_block_bytes(cache) * static_cast<std::uint64_t>(kept_blocks(cache));
  }
  return bytes;
}

std::uint64_t SessionShape::bytes(int positions) const {
  return static_cast<std::uint64_t>(blocks_for(positions)) * round_up(chunk_bytes(*this), kIoAlignment) +
         round_up(fixed_bytes(), kIoAlignment);
}

Session::Session(SessionShape shape) : shape_(std::move(shape)), chunk_bytes_(chunk_bytes(shape_)) {
  for (const SessionShape::State& state : shape_.states) {
    state_offset_.push_back(state_bytes_);
    state_bytes_ += state_bytes(state);
  }
  std::size_t in_chunk = 0;
  std::size_t in_fixed = state_bytes_;
  for (const SessionShape::Cache& cache : shape_.caches) {
    const bool ring = is_ring(shape_, cache);
    cache_offset_.push_back(ring ? in_fixed : in_chunk);
    if (ring) {
      in_fixed += aligned_block_bytes(cache) * static_cast<std::size_t>(shape_.kept_blocks(cache));
    } else {
      in_chunk += aligned_block_bytes(cache);
    }
  }
  if (in_fixed > 0) fixed_ = Buffer::allocate(in_fixed, "recurrent states and windows");
  const auto most_blocks = static_cast<std::size_t>(blocks_for(shape_.context));
  tokens_.reserve(static_cast<std::size_t>(shape_.context));
  chunks_.reserve(most_blocks);
  blocks_.resize(shape_.caches.size());
  for (auto& cache : blocks_) cache.reserve(most_blocks);
}

void Session::grow() {
  Buffer chunk;
  if (chunk_bytes_ > 0) chunk = Buffer::allocate(chunk_bytes_, "key-value cache");
  for (std::size_t i = 0; i < shape_.caches.size(); ++i) {
    const SessionShape::Cache& cache = shape_.caches[i];
    if (is_ring(shape_, cache)) {
      const std::size_t slot = chunks_.size() % static_cast<std::size_t>(shape_.kept_blocks(cache));
      blocks_[i].push_back(fixed_.data() + cache_offset_[i] + slot * aligned_block_bytes(cache));
    } else {
      blocks_[i].push_back(chunk.data() + cache_offset_[i]);
    }
  }
  chunks_.push_back(std::move(chunk));
}

void Session::append(std::span<const int> tokens) {
  if (tokens.size() > static_cast<std::size_t>(context() - position())) {
    fail("the context of {} positions has {} left, {} more tokens do not fit; shorten the prompt or raise --ctx-size",
         context(), context() - position(), tokens.size());
  }
  const int blocks = blocks_for(position() + static_cast<int>(tokens.size()));
  while (static_cast<int>(chunks_.size()) < blocks) grow();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

bool Session::can_restore(int position) const {
  if (position == this->position()) return true;
  if (!shape_.states.empty()) return false;
  const int newest = blocks_for(this->position()) - 1;
  return std::all_of(shape_.caches.begin(), shape_.caches.end(), [&](const SessionShape::Cache& cache) {
    // The first block that the next token would see is still there.
    return !is_ring(shape_, cache) ||
           std::max(0, position + 1 - cache.window) / kKvBlock > newest - shape_.kept_blocks(cache);
  });
}

int Session::truncate(int position) {
  const bool exact = can_restore(position);
  while (!checkpoints_.empty() && checkpoints_.back().position > position) checkpoints_.pop_back();
  if (!exact) {
    position = checkpoints_.empty() ? 0 : checkpoints_.back().position;
    if (position == 0) {
      std::fill_n(fixed_.data(), state_bytes_, std::byte{0});
    } else {
      std::memcpy(fixed_.data(), checkpoints_.back().fixed.data(), checkpoints_.back().fixed.size());
    }
  }
  tokens_.resize(static_cast<std::size_t>(position));
  const auto blocks = static_cast<std::size_t>(blocks_for(position));
  chunks_.resize(std::min(chunks_.size(), blocks));
  for (auto& cache : blocks_) cache.resize(chunks_.size());
  return position;
}

void Session::checkpoint() {
  if (fixed_.size() == 0 || (!checkpoints_.empty() && checkpoints_.back().position == position())) return;
  const std::byte* begin = fixed_.data();
  checkpoints_.push_back({position(), {begin, begin + shape_.fixed_bytes()}});
}

SessionSnapshot Session::save() const {
  SessionSnapshot snapshot{tokens_, {}, {}, rng_state};
  snapshot.kv.reserve(chunks_.size() * chunk_bytes_);
  for (const Buffer& chunk : chunks_) {
    snapshot.kv.insert(snapshot.kv.end(), chunk.data(), chunk.data() + chunk_bytes_);
  }
  snapshot.fixed.assign(fixed_.data(), fixed_.data() + shape_.fixed_bytes());
  return snapshot;
}

void Session::restore(const SessionSnapshot& snapshot) {
  const auto positions = static_cast<int>(snapshot.tokens.size());
  const auto blocks = static_cast<std::size_t>(blocks_for(positions));
  if (positions > context() || snapshot.kv.size() != blocks * chunk_bytes_ ||
      snapshot.fixed.size() != shape_.fixed_bytes()) {
    fail(
        "session snapshot: {} positions and {} bytes of cache and state do not fit a session of {} positions, {} bytes "
        "a block and {} fixed bytes",
        positions, snapshot.kv.size() + snapshot.fixed.size(), context(), chunk_bytes_, shape_.fixed_bytes());
  }
  checkpoints_.clear();
  truncate(0);
  append(snapshot.tokens);
  for (std::size_t i = 0; i < blocks && chunk_bytes_ > 0; ++i) {
    std::memcpy(chunks_[i].data(), snapshot.kv.data() + i * chunk_bytes_, chunk_bytes_);
  }
  if (!snapshot.fixed.empty()) std::memcpy(fixed_.data(), snapshot.fixed.data(), snapshot.fixed.size());
  rng_state = snapshot.rng_state;
}

std::byte* Session::block(int cache, int position) {
  return blocks_[static_cast<std::size_t>(cache)][static_cast<std::size_t>(position / kKvBlock)];
}

kernels::RecurrentState Session::state(int index) const {
  const auto i = static_cast<std::size_t>(index);
  std::byte* conv = fixed_.data() + state_offset_[i];
  std::byte* memory = conv + round_up(shape_.states[i].conv * sizeof(float), kLayerAlignment);
  return {reinterpret_cast<float*>(conv), reinterpret_cast<float*>(memory)};
}

std::uint64_t Session::bytes() const {
  return chunks_.size() * round_up(chunk_bytes_, kIoAlignment) + round_up(shape_.fixed_bytes(), kIoAlignment);
}

}  // namespace sluice::model
