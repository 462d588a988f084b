#include "base/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "base/units.h"

namespace sluice {
namespace {

bool is_aligned(const Buffer& buffer, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment == 0;
}

TEST(Buffer, IsZeroFilledWritableAndWholePages) {
  const Buffer buffer = Buffer::allocate(5000, "a test");
  EXPECT_EQ(buffer.size(), 8192U);
  EXPECT_TRUE(is_aligned(buffer, kIoAlignment));
  EXPECT_TRUE(std::all_of(buffer.bytes().begin(), buffer.bytes().end(), [](std::byte b) { return b == std::byte{0}; }));
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{7});
  EXPECT_EQ(buffer.bytes().back(), std::byte{7});
}

TEST(Buffer, LargeOnesAreAlignedForHugePages) {
  const Buffer buffer = Buffer::allocate(5 * kMiB, "a test");
  EXPECT_EQ(buffer.size(), 5 * kMiB);
  EXPECT_TRUE(is_aligned(buffer, 2 * kMiB));
  buffer.bytes().front() = std::byte{1};
  buffer.bytes().back() = std::byte{2};
}

TEST(Buffer, PrefaultKeepsTheContents) {
  const Buffer buffer = Buffer::allocate(3 * 4096, "a test");
  buffer.data()[4096] = std::byte{42};
  buffer.prefault();
  EXPECT_EQ(buffer.data()[4096], std::byte{42});
}

TEST(Buffer, MovingHandsTheMemoryOver) {
  Buffer first = Buffer::allocate(100, "a test");
  std::byte* const data = first.data();
  Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
  EXPECT_EQ(first.size(), 0U);
  first = std::move(second);
  EXPECT_EQ(first.data(), data);
}

TEST(Buffer, OfNothingIsEmpty) {
  const Buffer buffer = Buffer::allocate(0, "a test");
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_TRUE(buffer.bytes().empty());
  buffer.prefault();
}

TEST(Buffer, RefusalNamesThePurposeAndTheSize) {
  try {
    Buffer::allocate(std::size_t{1} << 60, "the expert slots");
    FAIL() << "an exbibyte was mapped";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the expert slots"));
    EXPECT_THAT(error.what(), testing::HasSubstr("1048576 TiB"));
    EXPECT_THAT(error.what(), testing::HasSubstr("--memory"));
  }
}

TEST(Rounding, GoesToMultiples) {
  EXPECT_EQ(round_down(8191, 4096), 4096U);
  EXPECT_EQ(round_down(8192, 4096), 8192U);
  EXPECT_EQ(round_up(8193, 4096), 12288U);
  EXPECT_EQ(round_up(8192, 4096), 8192U);
  EXPECT_EQ(round_up(0, 4096), 0U);
}

}  // namespace
}  // namespace sluice
