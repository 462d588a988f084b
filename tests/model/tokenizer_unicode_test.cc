// UTF-8, normal form C and the byte alphabet.
#include <gtest/gtest.h>

#include <set>

#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer_random_text.h"

namespace sluice::model {
namespace {

constexpr const char* kReplacement = "\uFFFD";

TEST(Utf8, ReplacesOneMaximalPartAtATime) {
  const std::string r = kReplacement;
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"a\xFF", "a" + r},
      {"\xC3", r},
      {"\xE2\x82", r},
      {"\xE2\x82 a", r + " a"},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98\x80", "\U0001F600"},
      {"\xED\xA0\x80", r + r + r},                 // a surrogate
      {"\xC0\xAF", r + r},                         // overlong
      {"\xE0\x80\xAF", r + r + r},                 // overlong
      {"\xF0\x80\x80\xAF", r + r + r + r},         // overlong
      {"\xF4\x90\x80\x80", r + r + r + r},         // above U+10FFFF
      {"\xF8\x88\x80\x80\x80", r + r + r + r + r}  // five bytes
      ,
      {"\xE2\x28\xA1", r + "(" + r},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", r + r + r + r + "A"},
  };
  for (const auto& [bytes, expected] : cases) EXPECT_EQ(replace_invalid_utf8(bytes), expected);
}

TEST(Utf8, AcceptsExactlyTheScalarValues) {
  int characters = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = utf8_step(text, 0);
    ASSERT_EQ(step.kind, Utf8Step::Kind::character) << static_cast<std::uint32_t>(c);
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(step.length, text.size());
    ++characters;
  }
  // Of all sequences of up to three bytes, and of four with a fixed end, no others are accepted.
  int accepted = 0;
  const auto count = [&](std::string_view text) {
    const Utf8Step step = utf8_step(text, 0);
    accepted += step.kind == Utf8Step::Kind::character && step.length == text.size() ? 1 : 0;
  };
  for (int a = 0; a < 256; ++a) {
    std::string text(1, static_cast<char>(a));
    count(text);
    for (int b = 0; b < 256; ++b) {
      text.resize(1);
      count(text += static_cast<char>(b));
      for (int c = 0; c < 256; ++c) {
        text.resize(2);
        count(text += static_cast<char>(c));
        text += '\x80';
        count(text);
      }
    }
  }
  EXPECT_EQ(characters, 0x110000 - 0x800);
  EXPECT_EQ(accepted, 0x10000 - 0x800 + 0x100000 / 64);
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("a\u00E9\u65E5\U0001F600"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("a\u00E9\x80"), 3);
  EXPECT_EQ(find_invalid_utf8("a\u00E9\xE6\x97"), 3);
}

TEST(Utf8, MeasuresAnUnfinishedEnd) {
  EXPECT_EQ(unfinished_utf8_suffix(""), 0);
  EXPECT_EQ(unfinished_utf8_suffix("a"), 0);
  EXPECT_EQ(unfinished_utf8_suffix("a\xC3"), 1);
  EXPECT_EQ(unfinished_utf8_suffix("a\xE6\x97"), 2);
  EXPECT_EQ(unfinished_utf8_suffix("a\xF0\x9F\x98"), 3);
  EXPECT_EQ(unfinished_utf8_suffix("\xF0\x9F\x98\x80"), 0);
  EXPECT_EQ(unfinished_utf8_suffix("a\xED\xA0"), 0);  // wrong already
  EXPECT_EQ(unfinished_utf8_suffix("a\x80\x80\x80"), 0);
}

TEST(Nfc, ComposesAndOrders) {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"ASCII", "ASCII"},
      {"\u00E9\u0142", "\u00E9\u0142"},
      {"e\u0301", "\u00E9"},
      {"A\u030A", "\u00C5"},
      {"\u212B", "\u00C5"},  // the Angstrom sign is a letter
      {"\u1112\u1161\u11AB", "\uD55C"},
      {"\uAC00\u11A8", "\uAC01"},
      {"\uAC00\u11A7", "\uAC00\u11A7"},  // U+11A7 is no trailing consonant
      {"q\u0307\u0323", "q\u0323\u0307"},
      {"\u1E0B\u0323", "\u1E0D\u0307"},
      {"s\u0323\u0307", "\u1E69"},
      {"\uFB01", "\uFB01"},        // a ligature is not canonically equivalent to its letters
      {"\u0958", "\u0915\u093C"},  // excluded from composition
      {"\u0344", "\u0308\u0301"},
      {"\U0001D15E", "\U0001D157\U0001D165"},
      {">\u0338", "\u226F"},
      {"a\u0315\u0300\u05AE\u0300b", "\u00E0\u05AE\u0300\u0315b"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(to_nfc(text), expected);
    EXPECT_EQ(to_nfc(expected), expected);
  }
}

TEST(Nfc, IsStable) {
  std::mt19937 random(5);
  for (int i = 0; i < 3000; ++i) {
    const std::string once = to_nfc(random_text(random));
    EXPECT_EQ(to_nfc(once), once);
  }
}

TEST(Nfc, OrdersALongRunOfMarks) {
  // Sorting by exchange of neighbours would run into the time limit of the test.
  std::string text = "a";
  for (int i = 0; i < 100'000; ++i) text += "\u0301\u0323";  // classes 230 and 220
  const std::string normal = to_nfc(text);
  EXPECT_TRUE(normal.starts_with("\u1EA1\u0323\u0323")) << "the dot below joins the letter first";
  EXPECT_TRUE(normal.ends_with("\u0301\u0301"));
  EXPECT_EQ(normal.size(), 3 + 2 * (2 * 100'000 - 1));
}

TEST(ByteAlphabet, SpellsEveryByteApart) {
  std::set<std::string> spellings;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    spellings.insert(spell_bytes(bytes));
    EXPECT_EQ(read_spelled_bytes(spell_bytes(bytes)), bytes);
  }
  EXPECT_EQ(spellings.size(), 256);
  EXPECT_EQ(spell_bytes(" a\n\u00E9"), "\u0120a\u010A\u00C3\u00A9");
}

TEST(ByteAlphabet, KnowsWhatIsNotPartOfIt) {
  EXPECT_EQ(read_spelled_bytes("a b"), std::nullopt);
  EXPECT_EQ(read_spelled_bytes("\u65E5"), std::nullopt);
  EXPECT_EQ(read_spelled_bytes("\u00AD"), std::nullopt);
  EXPECT_EQ(read_spelled_bytes("\u0144"), std::nullopt);  // one past the last
  EXPECT_EQ(read_spelled_bytes("\u0143"), "\xAD");
}

}  // namespace
}  // namespace sluice::model
