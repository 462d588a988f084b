// The decode loop reads without allocating: counted by replacing the global operator new of this program.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "base/memory.h"
#include "stream/reader.h"
#include "stream/scratch.h"

namespace {

std::atomic<std::size_t> allocations{0};

}  // namespace

// The default forms for arrays call these. Not inlined, because gcc takes free() of what operator new returned for a
// mistake when it sees both.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
// Algorithms that want a buffer, but can do without, call this form.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace sluice::stream {
namespace {

constexpr std::uint32_t kReads = 100;  // more than the depth

TEST(ReaderAllocations, EndOnceTheMostReadsWereOutstanding) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("file", random_bytes(kReads * kIoAlignment, 1));
  const Buffer buffer = Buffer::allocate(kReads * kIoAlignment, "test");
  std::vector<Read> reads;
  for (std::uint32_t i = 0; i < kReads; ++i) {
    reads.push_back({.offset = i * kIoAlignment,
                     .length = kIoAlignment,
                     .needed = kIoAlignment,
                     .dest = buffer.data() + i * kIoAlignment});
  }
  for (const char* engine : {"uring", "pread"}) {
    Reader reader = Reader::open(engine, path, 16);
    reader.add_file(path);
    const auto read_all = [&] {
      reader.submit(reads);
      std::array<Completion, 8> done;
      while (reader.outstanding() > 0) reader.poll(done, true);
    };
    const std::size_t at_first = allocations;
    read_all();
    const std::size_t warm = allocations;
    EXPECT_GT(warm, at_first) << "the counter works";
    for (int round = 0; round < 10; ++round) read_all();
    EXPECT_EQ(allocations, warm) << engine;
  }
}

}  // namespace
}  // namespace sluice::stream
