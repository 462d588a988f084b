#include "kernels/workspace.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace sluice::kernels {
namespace {

TEST(Workspace, SpansAreAlignedAndDoNotOverlap) {
  Workspace workspace;
  std::vector<std::span<int>> spans;
  for (std::size_t count : {1U, 15U, 16U, 17U, 1000U, 1'000'000U, 3U, 400'000U}) {
    spans.push_back(workspace.take<int>(count));
    EXPECT_EQ(spans.back().size(), count);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(spans.back().data()) % 64, 0U);
    for (int& value : spans.back()) value = static_cast<int>(spans.size());
  }
  for (std::size_t i = 0; i < spans.size(); ++i) {
    for (const int value : spans[i]) ASSERT_EQ(value, static_cast<int>(i + 1));
  }
}

TEST(Workspace, AMarkGivesBackWhatWasTakenAfterIt) {
  Workspace workspace;
  workspace.take<char>(10);
  const char* inside = nullptr;
  {
    const Workspace::Mark mark(workspace);
    inside = workspace.take<char>(100).data();
    workspace.take<char>(5'000'000);  // into another block
  }
  EXPECT_EQ(workspace.take<char>(100).data(), inside);
}

TEST(Workspace, ASecondPassOfTheSameShapeAllocatesNothing) {
  Workspace workspace;
  const auto pass = [&] {
    const Workspace::Mark mark(workspace);
    std::vector<void*> addresses;
    for (std::size_t count : {300'000U, 5U, 900'000U, 2'000'000U, 7U, 100'000U}) {
      addresses.push_back(workspace.take<double>(count).data());
    }
    return addresses;
  };
  EXPECT_EQ(workspace.capacity(), 0U);
  const auto first = pass();
  const std::size_t capacity = workspace.capacity();
  EXPECT_GE(capacity, 3'300'012 * sizeof(double));
  EXPECT_EQ(pass(), first);
  EXPECT_EQ(workspace.capacity(), capacity);
}

}  // namespace
}  // namespace sluice::kernels
