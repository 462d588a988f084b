// Scratch memory of one forward pass: a bump allocator, so that the decode loop never calls malloc.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace sluice::kernels {

/// Hands out uninitialised, 64-byte-aligned spans of trivial types, and takes them back all at once, last in, first
/// out, through Mark. Grows by adding blocks (which stay for the next pass), so after the first token of a given
/// shape nothing is allocated. Not thread-safe: one workspace per calling thread.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <typename T>
  std::span<T> take(std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    return {reinterpret_cast<T*>(take_bytes(count * sizeof(T))), count};
  }

  /// Everything taken after the mark was made is free again when it goes out of scope.
  class Mark {
   public:
    explicit Mark(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Mark() {
      workspace_.block_ = block_;
      workspace_.used_ = used_;
    }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Workspace& workspace_;
    std::size_t block_;
    std::size_t used_;
  };

  /// Bytes held, for the memory budget.
  std::size_t capacity() const;

 private:
  struct Block;
  std::byte* take_bytes(std::size_t bytes);

  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // the block that is being filled
  std::size_t used_ = 0;   // bytes used in it
};

}  // namespace sluice::kernels
