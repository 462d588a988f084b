#include "kernels/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/matmul_support.h"

namespace sluice::kernels {
namespace {

using testing::HasSubstr;

class FormatTest : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, FormatTest, testing::ValuesIn(all_formats()), format_name);

TEST_P(FormatTest, WholeGroupsAreFineAndPartsOfOneAreNot) {
  const int group = GetParam().group == 0 ? 1 : GetParam().group;
  EXPECT_EQ(format_problem(GetParam(), 3 * group), "");
  if (GetParam().mode == Mode::fp8_block) {
    EXPECT_EQ(format_problem(GetParam(), 3 * group + 8), "");  // the last block of a row may be cut short
  } else if (group > 1) {
    EXPECT_THAT(format_problem(GetParam(), 3 * group + 8), HasSubstr(std::to_string(group)));
  }
}

TEST_P(FormatTest, TheNamesOfFormatsDiffer) {
  for (const Format& other : all_formats()) {
    EXPECT_EQ(to_string(other) == to_string(GetParam()), other == GetParam()) << to_string(other);
  }
}

TEST(Format, IllegalCombinationsSayWhatIsWrong) {
  EXPECT_THAT(format_problem({Mode::affine, 7, 64, DType::bf16}, 128), HasSubstr("7 bits"));
  EXPECT_THAT(format_problem({Mode::affine, 4, 16, DType::bf16}, 128), HasSubstr("group size 16"));
  EXPECT_THAT(format_problem({Mode::affine, 4, 64, DType::u8}, 128), HasSubstr("U8"));
  EXPECT_THAT(format_problem({Mode::mxfp4, 4, 16, DType::u8}, 128), HasSubstr("mxfp4"));
  EXPECT_THAT(format_problem({Mode::nvfp4, 4, 32, DType::u8}, 128), HasSubstr("nvfp4"));
  EXPECT_THAT(format_problem({Mode::mxfp8, 4, 32, DType::u8}, 128), HasSubstr("mxfp8"));
  EXPECT_THAT(format_problem({Mode::symmetric, 8, 32, DType::bf16}, 128), HasSubstr("8 bits"));
  EXPECT_THAT(format_problem({Mode::symmetric, 4, 32, DType::u8}, 128), HasSubstr("U8"));
  EXPECT_THAT(format_problem({Mode::fp8_block, 8, 64, DType::f32}, 128), HasSubstr("blocks of 64"));
  EXPECT_THAT(format_problem({Mode::fp8_block, 8, 128, DType::u8}, 128), HasSubstr("U8"));
  EXPECT_THAT(format_problem(plain_format(DType::i32), 128), HasSubstr("I32"));
}

TEST(Format, RowsAreAsLongAsTheirCodesAndScales) {
  const Format affine{Mode::affine, 3, 64, DType::bf16};
  EXPECT_EQ(code_row_bytes(affine, 128), 48);
  EXPECT_EQ(scale_row_bytes(affine, 128), 4);
  EXPECT_EQ(code_row_bytes({Mode::nvfp4, 4, 16, DType::u8}, 128), 64);
  EXPECT_EQ(scale_row_bytes({Mode::nvfp4, 4, 16, DType::u8}, 128), 8);
  const Format fp8{Mode::fp8_block, 8, 128, DType::f32};
  EXPECT_EQ(code_row_bytes(fp8, 131), 131);
  EXPECT_EQ(scale_row_bytes(fp8, 131), 8);
  EXPECT_EQ(scale_bytes(fp8, 128, 131), 8);
  EXPECT_EQ(scale_bytes(fp8, 129, 131), 16);
  EXPECT_EQ(scale_bytes(affine, 3, 128), 12);
  EXPECT_EQ(code_row_bytes(plain_format(DType::f16), 5), 10);
  EXPECT_EQ(scale_row_bytes(plain_format(DType::f16), 5), 0);
}

}  // namespace
}  // namespace sluice::kernels
