#include "kernels/workspace.h"

#include <algorithm>
#include <utility>

#include "base/memory.h"
#include "base/units.h"

namespace sluice::kernels {
namespace {

constexpr std::size_t kAlignment = 64;            // a cache line, and the widest vector
constexpr std::size_t kSmallestBlock = 1 * kMiB;  // holds all scratch of a decode step of most models

}  // namespace

struct Workspace::Block {
  Buffer memory;
};

Workspace::Workspace() = default;
Workspace::~Workspace() = default;

std::size_t Workspace::capacity() const {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.memory.size();
  return bytes;
}

std::byte* Workspace::take_bytes(std::size_t bytes) {
  const std::size_t size = round_up(bytes, kAlignment);
  while (block_ < blocks_.size() && blocks_[block_].memory.size() - used_ < size) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.push_back({Buffer::allocate(std::max(size, kSmallestBlock), "the scratch memory of a forward pass")});
  }
  std::byte* taken = blocks_[block_].memory.data() + used_;
  used_ += size;
  return taken;
}

}  // namespace sluice::kernels
