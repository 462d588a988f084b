#include "base/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/units.h"

namespace sluice {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = 2 * kMiB;

}  // namespace

Buffer Buffer::allocate(std::size_t bytes, const char* purpose, MemoryKind) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  const std::size_t size = round_up(bytes, kPage);
  const bool huge = size >= kHugePage;
  const std::size_t mapped = huge ? size + kHugePage : size;  // room to align; the ends are unmapped again
  void* address = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    fail("{}: cannot reserve {} of memory ({}); use a smaller --memory or --cache-slots", purpose, format_bytes(bytes),
         std::strerror(errno));
  }
  auto* begin = static_cast<std::byte*>(address);
  if (huge) {
    auto* aligned = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::uintptr_t>(begin), kHugePage));
    const std::size_t head = static_cast<std::size_t>(aligned - begin);
    if (head > 0) munmap(begin, head);
    const std::size_t tail = mapped - head - size;
    if (tail > 0) munmap(aligned + size, tail);
    begin = aligned;
    madvise(begin, size, MADV_HUGEPAGE);  // advice: the kernel may decline, and nothing depends on it
  }
  buffer.data_ = begin;
  buffer.size_ = size;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

void Buffer::prefault(std::size_t offset, std::size_t bytes) const {
  for (std::size_t at = round_down(offset, kPage); at < offset + bytes; at += kPage) {
    auto* byte = reinterpret_cast<volatile std::byte*>(data_ + at);
    *byte = *byte;
  }
}

void Buffer::release(std::size_t offset, std::size_t bytes) const {
  const std::size_t unit = size_ >= kHugePage ? kHugePage : kPage;
  const std::size_t begin = round_up(offset, unit);
  const std::size_t last = offset + bytes == size_ ? size_ : round_down(offset + bytes, unit);
  if (begin < last) madvise(data_ + begin, last - begin, MADV_DONTNEED);
}

}  // namespace sluice
