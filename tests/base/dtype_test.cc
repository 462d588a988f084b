#include "base/dtype.h"

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

namespace sluice {
namespace {

TEST(DType, EveryTypeHasTheNameAndTheSizeThatSafetensorsGivesIt) {
  constexpr std::pair<std::string_view, std::size_t> kTypes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4},
      {"I16", 2}, {"I8", 1},  {"U64", 8}, {"U32", 4},  {"U16", 2},     {"U8", 1},      {"BOOL", 1}};
  for (const auto& [name, size] : kTypes) {
    const auto type = dtype_from_name(name);
    ASSERT_TRUE(type.has_value()) << name;
    EXPECT_EQ(size_of(*type), size) << name;
    EXPECT_EQ(name_of(*type), name);
  }
}

TEST(DType, UnknownSpellingsAreNothing) {
  for (const std::string_view name : {"", "f32", "F128", "BF16 ", "F4"}) EXPECT_FALSE(dtype_from_name(name)) << name;
}

}  // namespace
}  // namespace sluice
