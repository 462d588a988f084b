#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace sluice::model {

using kernels::kKvBlock;
using kernels::KvShape;

namespace {

/// Layers start on cache lines inside a chunk.
constexpr std::size_t kLayerAlignment = 64;

int blocks_for(int positions) { return (positions + kKvBlock - 1) / kKvBlock; }

}  // namespace

Session::Session(std::vector<KvShape> layers, int context) : layers_(std::move(layers)), context_(context) {
  for (const KvShape& shape : layers_) {
    layer_offset_.push_back(chunk_bytes_);
    chunk_bytes_ += round_up(shape.block_bytes(), kLayerAlignment);
  }
  const auto most_blocks = static_cast<std::size_t>(blocks_for(context));
  tokens_.reserve(static_cast<std::size_t>(context));
  chunks_.reserve(most_blocks);
  blocks_.resize(layers_.size());
  for (auto& layer : blocks_) layer.reserve(most_blocks);
}

void Session::grow() {
  Buffer chunk = Buffer::allocate(chunk_bytes_, "key-value cache");
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    blocks_[layer].push_back(chunk.data() + layer_offset_[layer]);
  }
  chunks_.push_back(std::move(chunk));
}

void Session::append(std::span<const int> tokens) {
  if (tokens.size() > static_cast<std::size_t>(context_ - position())) {
    fail("the context of {} positions has {} left, {} more tokens do not fit; shorten the prompt or raise --ctx-size",
         context_, context_ - position(), tokens.size());
  }
  const int blocks = blocks_for(position() + static_cast<int>(tokens.size()));
  while (static_cast<int>(chunks_.size()) < blocks) grow();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Session::truncate(int position) {
  tokens_.resize(static_cast<std::size_t>(position));
  const auto blocks = static_cast<std::size_t>(blocks_for(position));
  chunks_.resize(std::min(chunks_.size(), blocks));
  for (auto& layer : blocks_) layer.resize(chunks_.size());
}

SessionSnapshot Session::save() const {
  SessionSnapshot snapshot{tokens_, {}, rng_state};
  snapshot.kv.reserve(chunks_.size() * chunk_bytes_);
  for (const Buffer& chunk : chunks_) {
    snapshot.kv.insert(snapshot.kv.end(), chunk.data(), chunk.data() + chunk_bytes_);
  }
  return snapshot;
}

void Session::restore(const SessionSnapshot& snapshot) {
  const auto positions = static_cast<int>(snapshot.tokens.size());
  const auto blocks = static_cast<std::size_t>(blocks_for(positions));
  if (positions > context_ || snapshot.kv.size() != blocks * chunk_bytes_) {
    fail(
        "session snapshot: {} positions and {} bytes of cache do not fit a session of {} positions and {} bytes a "
        "block",
        positions, snapshot.kv.size(), context_, chunk_bytes_);
  }
  truncate(0);
  append(snapshot.tokens);
  for (std::size_t i = 0; i < blocks; ++i) {
    std::memcpy(chunks_[i].data(), snapshot.kv.data() + i * chunk_bytes_, chunk_bytes_);
  }
  rng_state = snapshot.rng_state;
}

std::byte* Session::block(int layer, int position) {
  return blocks_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(position / kKvBlock)];
}

std::uint64_t Session::kv_bytes(std::span<const KvShape> layers, int positions) {
  std::uint64_t chunk = 0;
  for (const KvShape& shape : layers) chunk += round_up(shape.block_bytes(), kLayerAlignment);
  return static_cast<std::uint64_t>(blocks_for(positions)) * round_up(chunk, kIoAlignment);
}

std::uint64_t Session::kv_bytes() const { return chunks_.size() * round_up(chunk_bytes_, kIoAlignment); }

}  // namespace sluice::model
