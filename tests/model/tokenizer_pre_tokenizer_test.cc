// Cutting into pieces, and the regular expressions behind it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> cut(const PreTokenizerSpec& spec, std::string text) {
  const Pieces pieces = PreTokenizer(spec, "file").split(std::move(text));
  std::vector<std::string> result;
  for (const TextRange& range : pieces.ranges)
    result.push_back(pieces.text.substr(range.begin, range.end - range.begin));
  return result;
}

std::vector<std::string> cut(const SplitSpec& split, std::string text) {
  return cut(PreTokenizerSpec{{split}, false, false}, std::move(text));
}

constexpr const char* kQwen =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGptOss =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST(PreTokenizer, CutsLikeTheModelsInUse) {
  const std::string text = "HelloWorld's 2024\n\n  (x)  end ";
  EXPECT_THAT(cut(SplitSpec{kQwen}, text),
              ElementsAre("HelloWorld", "'s", " ", "2", "0", "2", "4", "\n\n", " ", " (", "x", ")", " ", " end", " "));
  EXPECT_THAT(cut(SplitSpec{kLlama3}, text),
              ElementsAre("HelloWorld", "'s", " ", "202", "4", "\n\n", " ", " (", "x", ")", " ", " end", " "));
  EXPECT_THAT(cut(SplitSpec{kGptOss}, text),
              ElementsAre("Hello", "World's", " ", "202", "4", "\n\n", " ", " (", "x", ")", " ", " end", " "));
  EXPECT_THAT(cut(PreTokenizerSpec{{}, false, true}, text),
              ElementsAre("HelloWorld", "'s", " 2024", "\n\n ", " (", "x", ")", " ", " end", " "));
}

TEST(PreTokenizer, LetsEachSplitCutThePiecesOfTheOneBefore) {
  const PreTokenizerSpec deepseek{{{R"(\p{N}{1,3})"}, {R"([一-龥]+)"}, {R"(\s?\p{L}+)"}}, false, false};
  EXPECT_THAT(cut(deepseek, "ab12345日本 c"), ElementsAre("ab", "123", "45", "日本", " c"));
}

TEST(PreTokenizer, DoesWithMatchesWhatTheBehaviorSays) {
  using enum SplitBehavior;
  const std::string text = "-a--b-";
  const auto with = [&](SplitBehavior behavior, bool invert = false) {
    return cut(SplitSpec{"-", true, behavior, invert}, text);
  };
  EXPECT_THAT(with(isolated), ElementsAre("-", "a", "-", "-", "b", "-"));
  EXPECT_THAT(with(removed), ElementsAre("a", "b"));
  EXPECT_THAT(with(merged_with_previous), ElementsAre("-", "a-", "-", "b-"));
  EXPECT_THAT(with(merged_with_next), ElementsAre("-a", "-", "-b", "-"));
  EXPECT_THAT(with(contiguous), ElementsAre("-", "a", "--", "b", "-"));
  EXPECT_THAT(with(isolated, true), ElementsAre("-", "a", "-", "-", "b", "-"));
  EXPECT_THAT(with(removed, true), ElementsAre("-", "-", "-", "-"));
  EXPECT_THAT(with(merged_with_previous, true), ElementsAre("-a", "-", "-b", "-"));
}

TEST(PreTokenizer, KeepsTextBetweenMatches) {
  EXPECT_THAT(cut(SplitSpec{R"(\d+)"}, "ab12cd"), ElementsAre("ab", "12", "cd"));
  EXPECT_THAT(cut(SplitSpec{R"(x)"}, "abc"), ElementsAre("abc"));
  EXPECT_THAT(cut(SplitSpec{R"(\d+)"}, ""), ElementsAre());
}

TEST(PreTokenizer, CutsAtEmptyMatches) {
  EXPECT_THAT(cut(SplitSpec{"(?=b)"}, "abab"), ElementsAre("a", "ba", "b"));
  EXPECT_THAT(cut(SplitSpec{"x*"}, "a日xxb"), ElementsAre("a", "日", "xx", "b"));
}

TEST(PreTokenizer, PutsASpaceBeforePiecesThatHaveNone) {
  EXPECT_THAT(cut(PreTokenizerSpec{{}, true, true}, "one two"), ElementsAre(" one", " two"));
  EXPECT_THAT(cut(PreTokenizerSpec{{}, true, false}, " one"), ElementsAre(" one"));
  const PreTokenizerSpec after_digits{{{R"(\p{N})"}}, true, false};
  EXPECT_THAT(cut(after_digits, "a12"), ElementsAre(" a", " 1", " 2"));
  EXPECT_THAT(cut(after_digits, ""), ElementsAre());
}

TEST(Regex, TreatsALiteralAsText) {
  EXPECT_THAT(Regex(".*", Regex::Syntax::literal, "f").find_all("a.*b.*"),
              ElementsAre(TextRange{1, 3}, TextRange{4, 6}));
}

TEST(Regex, FindsWhatOnigurumaFinds) {
  const auto matches = [](const char* pattern, const char* text) {
    return Regex(pattern, Regex::Syntax::oniguruma, "f").find_all(text).size();
  };
  // U+180E is a space in PCRE2 only; U+0085 in both. Marks are part of words in Oniguruma only.
  EXPECT_EQ(matches(R"(\s)", "\u180E"), 0);
  EXPECT_EQ(matches(R"([\s])", "\u180E\u0085\u3000\u00A0 \n\v"), 6);
  EXPECT_EQ(matches(R"(\S)", "\u180E "), 1);
  EXPECT_EQ(matches(R"(^\w+$)", "e\u0301\u0905\u0928\u093F_1"), 1);
  EXPECT_EQ(matches(R"(\W)", "e\u0301-"), 1);
  EXPECT_EQ(matches(R"(\h)", "fG\t"), 1);
  EXPECT_EQ(matches(R"(^b)", "a\nb"), 1);  // ^ is at lines
  EXPECT_EQ(matches(R"([]a]+)", "a]"), 1);
  EXPECT_EQ(matches(R"([[:alpha:]]+)", "a]"), 1);
  EXPECT_EQ(matches(R"((?i:'s))", "'\u017F"), 1);  // the long s
}

TEST(Regex, RefusesWhatItCannotCompile) {
  const auto message = [](const char* pattern) {
    return message_of<Error>([&] { Regex(pattern, Regex::Syntax::oniguruma, "file: part"); });
  };
  EXPECT_THAT(message("(a"), HasSubstr("file: part: pattern '(a': missing closing parenthesis"));
  EXPECT_THAT(message(R"([a&&b])"), HasSubstr(": set operations"));
  EXPECT_THAT(message(R"([a[bc]])"), HasSubstr(": set operations"));
  EXPECT_THAT(message(R"([[:alpha)"), HasSubstr("file: part: pattern '[[:alpha': '[:' does not end"));
  EXPECT_THAT(message(R"(\C)"), HasSubstr("file: part: pattern"));
  EXPECT_THAT(message(std::string(100'000, 'a').c_str()), HasSubstr("too long"));
}

TEST(Regex, StopsPatternsThatBacktrackWithoutEnd) {
  const std::string text = std::string(5000, 'a') + "!";
  for (const char* pattern : {"(a+)+$", "(a|aa)+$", "(a*)*[xy]", "(.*)(.*)(.*)(.*)[xy]"}) {
    const Regex regex(pattern, Regex::Syntax::oniguruma, "file");
    EXPECT_THAT(message_of<Error>([&] { regex.find_all(text); }), HasSubstr("file: pattern")) << pattern;
  }
}

TEST(Regex, AllowsLongMatchesTheirSteps) {
  // The first alternative of white space fails only after it has looked at all of the run.
  const std::string spaces(300'000, ' ');
  EXPECT_THAT(Regex(kQwen, Regex::Syntax::oniguruma, "f").find_all(spaces + "a"),
              ElementsAre(TextRange{0, 299'999}, TextRange{299'999, 300'001}));
  // A group that repeats needs memory for each time, more than the JIT has on its stack.
  EXPECT_THAT(Regex("(?:a|b)+", Regex::Syntax::oniguruma, "f").find_all(std::string(100'000, 'a')),
              ElementsAre(TextRange{0, 100'000}));
}

}  // namespace
}  // namespace sluice::model
