#include "base/text.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace sluice {
namespace {

TEST(Nearest, IsTheCandidateWithTheFewestEdits) {
  constexpr std::array<std::string_view, 3> kNames{"SLUICE_MEMORY", "SLUICE_THREADS", "SLUICE_MOE_PATH"};
  EXPECT_EQ(nearest("SLUICE_MEMROY", kNames), "SLUICE_MEMORY");
  EXPECT_EQ(nearest("SLUICE_THREAD", kNames), "SLUICE_THREADS");
  EXPECT_EQ(nearest("SLUICE_MOEPATH", kNames), "SLUICE_MOE_PATH");
  EXPECT_EQ(nearest("SLUICE_THREADS", kNames), "SLUICE_THREADS");
}

TEST(Nearest, IsTheFirstOfEquals) {
  constexpr std::array<std::string_view, 2> kNames{"ab", "ac"};
  EXPECT_EQ(nearest("a", kNames), "ab");
  EXPECT_EQ(nearest("", kNames), "ab");
}

TEST(Printable, EscapesWhatWouldBreakALine) {
  EXPECT_EQ(printable("model.layers.0"), "model.layers.0");
  EXPECT_EQ(printable("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(printable(std::string_view("\0x", 2)), "\\x00x");
  EXPECT_EQ(printable("größe"), "größe");
  EXPECT_EQ(printable("a\xC2\x9B"
                      "31m"),
            "a\\u009b31m");
}

TEST(Printable, CutsLongText) {
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable("größe", 3), "grö...");
}

}  // namespace
}  // namespace sluice
