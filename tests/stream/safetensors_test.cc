#include "stream/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

#include "base/error.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kDataBytes = 64;

/// Parses `header` as that of a file with kDataBytes of data.
std::vector<TensorInfo> parse(std::string_view header) {
  return parse_header(std::as_bytes(std::span(header)), 8 + header.size() + kDataBytes, "shard");
}

std::array<std::byte, 8> little_endian(std::uint64_t value) {
  std::array<std::byte, 8> bytes{};
  for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
  return bytes;
}

TEST(ParseHeader, GivesTensorsInOrderOfOffset) {
  const std::string header = R"({
    "__metadata__": {"format": "mlx", "list": [1, {"deep": null}], "on": true},
    "b": {"data_offsets": [12, 24], "shape": [2, 3], "dtype": "BF16"},
    "a": {"dtype": "U32", "shape": [3], "data_offsets": [0, 12]}
  })";
  const std::vector<TensorInfo> tensors = parse(header);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::u32);
  EXPECT_THAT(tensors[0].shape, ElementsAre(3));
  EXPECT_EQ(tensors[0].offset, 8 + header.size());
  EXPECT_EQ(tensors[0].bytes, 12u);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].dtype, DType::bf16);
  EXPECT_THAT(tensors[1].shape, ElementsAre(2, 3));
  EXPECT_EQ(tensors[1].offset, 8 + header.size() + 12);
  EXPECT_EQ(tensors[1].bytes, 12u);
}

TEST(ParseHeader, AcceptsScalarsEmptyTensorsPaddingAndNoTensorAtAll) {
  EXPECT_THAT(parse("{}"), ElementsAre());
  EXPECT_THAT(parse("{}      "), ElementsAre());
  const auto tensors = parse(
      R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
          "empty":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},
          "inside":{"dtype":"F32","shape":[0],"data_offsets":[2,2]},
          "after":{"dtype":"U8","shape":[60],"data_offsets":[4,64]}}   )");
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "scalar");
  EXPECT_EQ(tensors[1].name, "inside");
  EXPECT_EQ(tensors[2].name, "empty");
  EXPECT_EQ(tensors[2].bytes, 0u);
  EXPECT_EQ(tensors[3].name, "after");
}

struct Refusal {
  const char* name;  // of the test
  const char* header;
  const char* expected;  // part of the message
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

const Refusal kRefusals[] = {
    {"Empty", "", "is not a JSON object"},
    {"Array", "[]", "is not a JSON object"},
    {"String", "\"x\"", "is not a JSON object"},
    {"ByteOrderMark", "\xef\xbb\xbf{}", "is not a JSON object"},
    {"Truncated", R"({"a":{"dtype":"U8","shape":[1],)", "not valid JSON at byte"},
    {"TrailingGarbage", "{} x", "not valid JSON at byte"},
    {"SecondDocument", "{}{}", "not valid JSON at byte"},
    {"Utf8", "{\"\xff\":{}}", "not valid JSON at byte"},
    {"Infinity", R"({"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,1]}})", "not valid JSON at byte"},
    {"HugeNumber", R"({"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", "not valid JSON at byte"},
    {"EntryIsNumber", R"({"a":1})", "tensor 'a' is a number in the header; expected an object"},
    {"EntryIsNull", R"({"a":null})", "tensor 'a' is null in the header; expected an object"},
    {"EntryIsArray", R"({"a":[]})", "tensor 'a' is an array in the header; expected an object"},
    {"MetadataIsString", R"({"__metadata__":"x"})", "'__metadata__' is a string in the header; expected an object"},
    {"NoDtype", R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "tensor 'a' has no dtype"},
    {"NoShape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "tensor 'a' has no shape"},
    {"NoOffsets", R"({"a":{"dtype":"U8","shape":[1]}})", "tensor 'a' has no data_offsets"},
    {"UnknownField", R"({"a":{"dtype":"U8","stride":[1]}})", "tensor 'a' has unknown field 'stride'"},
    {"FieldTwice", R"({"a":{"dtype":"U8","dtype":"U8"}})", "tensor 'a' has field 'dtype' twice"},
    {"UnknownDtype", R"({"a":{"dtype":"U7"}})", "tensor 'a' has unknown dtype 'U7'"},
    {"DtypeIsNumber", R"({"a":{"dtype":8}})", "has a dtype that is a number; expected a string"},
    {"DtypeIsObject", R"({"a":{"dtype":{}}})", "has a dtype that is an object; expected a string"},
    {"ShapeIsString", R"({"a":{"shape":"1"}})", "has a shape that is a string; expected an array of integers"},
    {"ShapeNegative", R"({"a":{"shape":[-1]}})", "has a negative number in its shape; expected non-negative integers"},
    {"ShapeFraction", R"({"a":{"shape":[1.5]}})", "has a fraction or a number beyond 64 bits in its shape"},
    {"ShapeBeyond64", R"({"a":{"shape":[18446744073709551616]}})", "a number beyond 64 bits in its shape"},
    {"ShapeBeyond63", R"({"a":{"shape":[9223372036854775808]}})", "shape holds 9223372036854775808"},
    {"ShapeNested", R"({"a":{"shape":[[1]]}})", "has an array in its shape"},
    {"ShapeHoldsString", R"({"a":{"shape":["1"]}})", "has a string in its shape"},
    {"TooManyDimensions", R"({"a":{"shape":[1,1,1,1,1,1,1,1,1]}})", "has more than 8 dimensions"},
    {"OneOffset", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "has 1 data_offsets; expected two"},
    {"ThreeOffsets", R"({"a":{"data_offsets":[0,1,2]}})", "data_offsets holds more than two numbers"},
    {"OffsetNegative", R"({"a":{"data_offsets":[-1,0]}})", "has a negative number in its data_offsets"},
    {"OffsetBoolean", R"({"a":{"data_offsets":[true,0]}})", "has a boolean in its data_offsets"},
    {"ShapeOverflows", R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
     "has a shape whose size overflows 64 bits"},
    {"BytesOverflow", R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
     "has a shape whose size overflows 64 bits"},
    {"BeginAfterEnd", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[2,1]}})", "begins at 2 after its end at 1"},
    {"RangeTooLong", R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,5]}})",
     "tensor 'a' has 5 bytes of data; its shape and dtype F16 need 4"},
    {"RangeTooShort", R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,3]}})", "has 3 bytes of data"},
    {"PastEnd", R"({"a":{"dtype":"U8","shape":[65],"data_offsets":[0,65]}})",
     "tensor 'a' ends at byte 65 of the data, but the file holds only 64"},
    {"FarPastEnd", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]}})",
     "ends at byte 18446744073709551615 of the data"},
    {"EmptyPastEnd", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[65,65]}})", "ends at byte 65 of the data"},
    {"Overlap",
     R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[7,15]}})",
     "tensor 'b' overlaps tensor 'a' at byte"},
    {"SameRange",
     R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
     "tensor 'b' overlaps tensor 'a'"},
    {"OverlapAcrossEmpty",
     R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"e":{"dtype":"U8","shape":[0],"data_offsets":[4,4]},
         "b":{"dtype":"U8","shape":[8],"data_offsets":[7,15]}})",
     "tensor 'b' overlaps tensor 'a'"},
    {"Duplicate",
     R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     "tensor 'a' is in the header twice"},
    {"ControlCharacters", R"({"a\u001b[2J\n":1})", "tensor 'a\\x1b[2J\\x0a' is a number"},
};

class ParseHeaderRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(ParseHeaderRefuses, WithOneLineThatNamesFileAndFault) {
  const std::string message = message_of<Error>([] { parse(GetParam().header); });
  EXPECT_THAT(message, HasSubstr(GetParam().expected));
  EXPECT_TRUE(message.starts_with("shard: ")) << message;
  EXPECT_THAT(message, Not(HasSubstr("\n")));
}

INSTANTIATE_TEST_SUITE_P(All, ParseHeaderRefuses, ::testing::ValuesIn(kRefusals),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ParseHeader, RefusesZeroBytesThatWouldHideGarbage) {
  using namespace std::string_literals;
  EXPECT_THAT(message_of<Error>([] { parse("{}\0garbage"s); }), HasSubstr("zero byte"));
}

TEST(ParseHeader, RefusesDeepNestingWithoutRecursion) {
  const std::string brackets(1'000'000, '[');
  EXPECT_THAT(message_of<Error>([&] { parse("{\"a\":" + brackets); }), HasSubstr("is an array in the header"));
  EXPECT_THAT(message_of<Error>([&] { parse("{\"a\":{\"shape\":" + brackets); }), HasSubstr("an array in its shape"));
  EXPECT_THAT(message_of<Error>([&] { parse("{\"__metadata__\":{\"x\":" + brackets); }), HasSubstr("too deeply"));
}

TEST(ParseHeader, CutsLongNamesInMessages) {
  const std::string name(100'000, 'n');
  const std::string message = message_of<Error>([&] { parse("{\"" + name + "\":1}"); });
  EXPECT_LT(message.size(), 250u);
  EXPECT_THAT(message, HasSubstr("nnn...'"));
}

TEST(ParseHeader, RefusesAFileShorterThanItsHeader) {
  const std::string_view header = "{}";
  EXPECT_THAT(message_of<Error>([&] { parse_header(std::as_bytes(std::span(header)), 9, "shard"); }),
              HasSubstr("shard: has 9 bytes, its header alone needs 10"));
}

TEST(HeaderLength, IsLittleEndian) {
  EXPECT_EQ(header_length(little_endian(0x010203), 70'000'000, "shard"), 0x010203u);
}

TEST(HeaderLength, MayReachTheEndOfTheFileAndNoFurther) {
  EXPECT_EQ(header_length(little_endian(100), 108, "shard"), 100u);
  EXPECT_THAT(message_of<Error>([] { header_length(little_endian(100), 107, "shard"); }),
              HasSubstr("shard: has 107 bytes, its header alone needs 108"));
}

TEST(HeaderLength, RefusesAnAbsurdLength) {
  constexpr std::uint64_t kHuge = 1ull << 40;
  EXPECT_EQ(header_length(little_endian(kMaxHeaderBytes), kHuge, "shard"), kMaxHeaderBytes);
  EXPECT_THAT(message_of<Error>([] { header_length(little_endian(kMaxHeaderBytes + 1), kHuge, "shard"); }),
              HasSubstr("claims a header of 100000001 bytes"));
  EXPECT_THAT(message_of<Error>([] { header_length(little_endian(UINT64_MAX), kHuge, "shard"); }),
              HasSubstr("claims a header of 18446744073709551615 bytes"));
}

}  // namespace
}  // namespace sluice::stream
