// Large page-aligned memory: slot arenas, dense weights, KV caches, read windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice {

/// Where memory lives. Pinned and device memory join here when something uses them.
enum class MemoryKind : std::uint8_t { host };

/// Direct I/O needs memory, file offset and length to be multiples of this. 4096 satisfies every Linux block device
/// in use (512 and 4096 byte sectors).
inline constexpr std::size_t kIoAlignment = 4096;

/// An owned, zero-filled block of memory, mapped from the kernel. Move-only. Blocks of 2 MiB and more are aligned to
/// 2 MiB and ask for transparent huge pages: a token touches gigabytes, and with 4 KiB pages the TLB misses cost a
/// fifth of the decode speed.
class Buffer {
 public:
  Buffer() = default;
  /// Maps `bytes` (rounded up to whole pages). Throws Error naming `purpose` if the kernel refuses.
  /// Pages are not touched until prefault() or first use.
  static Buffer allocate(std::size_t bytes, const char* purpose, MemoryKind kind = MemoryKind::host);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

  /// Touches every page now, so that no page fault happens in the decode loop.
  void prefault() const { prefault(0, size_); }
  /// Likewise the pages of [offset, offset + bytes). Contents stay.
  void prefault(std::size_t offset, std::size_t bytes) const;

  /// Gives the memory of [offset, offset + bytes) back to the kernel. Only pages that lie inside as a whole go, huge
  /// ones in a block that asks for huge pages, so that no neighbour loses its own. What goes reads as zeros and is
  /// mapped anew when it is touched; what stays is undefined too. No read may be under way into it, and it must not be
  /// registered with the kernel as an I/O buffer: that would keep the old pages.
  void release(std::size_t offset, std::size_t bytes) const;

 private:
  std::byte* data_ = nullptr;  // page-aligned
  std::size_t size_ = 0;       // bytes, whole pages
};

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t multiple) { return value / multiple * multiple; }
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace sluice
