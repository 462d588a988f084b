// Finding added tokens: overlaps, neighbours and the white space around them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer_fixture.h"

namespace sluice::model {
namespace {

using ::testing::ElementsAre;

/// The segments of `text`, tokens in brackets.
std::vector<std::string> find(const std::vector<AddedToken>& tokens, std::string_view text,
                              bool special_as_text = false) {
  std::vector<const AddedToken*> pointers;
  for (const AddedToken& token : tokens) pointers.push_back(&token);
  std::vector<std::string> result;
  for (const Segment& segment : AddedTokenFinder(pointers).split(text, special_as_text)) {
    result.push_back(segment.token == nullptr ? std::string(segment.text) : "[" + std::string(segment.text) + "]");
  }
  return result;
}

AddedToken token(std::string content) {
  AddedToken result;
  result.content = std::move(content);
  return result;
}

TEST(AddedTokens, AreFoundBesideEachOther) {
  const std::vector<AddedToken> tokens = {token("<a>"), token("<b>")};
  EXPECT_THAT(find(tokens, "<a><b>x<a>"), ElementsAre("[<a>]", "[<b>]", "x", "[<a>]"));
  EXPECT_THAT(find(tokens, "<<a>>"), ElementsAre("<", "[<a>]", ">"));
  EXPECT_THAT(find(tokens, "<a"), ElementsAre("<a"));
  EXPECT_THAT(find(tokens, ""), ElementsAre());
  EXPECT_THAT(find({}, "text"), ElementsAre("text"));
}

TEST(AddedTokens, TakeTheLongestAtTheLeftmostPlace) {
  const std::vector<AddedToken> tokens = {token("ab"), token("abcd"), token("bcde"), token("e")};
  EXPECT_THAT(find(tokens, "abcde"), ElementsAre("[abcd]", "[e]"));
  EXPECT_THAT(find(tokens, "abcx"), ElementsAre("[ab]", "cx"));
  EXPECT_THAT(find(tokens, "xbcde"), ElementsAre("x", "[bcde]"));
}

TEST(AddedTokens, AreTextIfSpecialAndAskedFor) {
  AddedToken special = token("<s>");
  special.special = true;
  EXPECT_THAT(find({special, token("<t>")}, "a<s><t>"), ElementsAre("a", "[<s>]", "[<t>]"));
  EXPECT_THAT(find({special, token("<t>")}, "a<s><t>", true), ElementsAre("a<s>", "[<t>]"));
}

TEST(AddedTokens, StandAloneIfTheyAreSingleWords) {
  AddedToken word = token("foo");
  word.single_word = true;
  EXPECT_THAT(find({word}, "foo foo, (foo)"), ElementsAre("[foo]", " ", "[foo]", ", (", "[foo]", ")"));
  EXPECT_THAT(find({word}, "foo_ xfoo foo1 \u00E9foo foo\u65E5 foofoo"),
              ElementsAre("foo_ xfoo foo1 \u00E9foo foo\u65E5 foofoo"));
}

TEST(AddedTokens, TakeWhiteSpaceWithThem) {
  AddedToken left = token("<l>");
  left.lstrip = true;
  AddedToken right = token("<r>");
  right.rstrip = true;
  EXPECT_THAT(find({left, right}, "a \u3000\n<l> b <r>\t c"),
              ElementsAre("a", "[ \u3000\n<l>]", " b ", "[<r>\t ]", "c"));
  EXPECT_THAT(find({left, right}, "<r>  <l>"), ElementsAre("[<r>  ]", "[<l>]"));
  EXPECT_THAT(find({left, right}, "  <l>"), ElementsAre("[  <l>]"));
  EXPECT_THAT(find({left, right}, "<r>  "), ElementsAre("[<r>  ]"));
}

TEST(AddedTokens, EqualTheNaiveSearch) {
  std::mt19937 random(6);
  const auto word = [&](std::size_t longest) {
    std::string text(1 + random() % longest, '\0');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  for (int i = 0; i < 500; ++i) {
    std::vector<AddedToken> tokens;
    for (std::size_t n = random() % 5; n > 0; --n) tokens.push_back(token(word(5)));
    const std::string text = word(40);
    std::vector<std::string> expected;
    std::string between;
    for (std::size_t at = 0; at < text.size();) {
      std::string longest;
      for (const AddedToken& candidate : tokens) {
        if (text.compare(at, candidate.content.size(), candidate.content) == 0 &&
            candidate.content.size() > longest.size()) {
          longest = candidate.content;
        }
      }
      if (longest.empty()) {
        between += text[at++];
        continue;
      }
      if (!between.empty()) expected.push_back(std::exchange(between, {}));
      expected.push_back("[" + longest + "]");
      at += longest.size();
    }
    if (!between.empty()) expected.push_back(between);
    EXPECT_EQ(find(tokens, text), expected) << text;
  }
}

TEST(AddedTokens, AreLookedForInTheNormalizedTextIfTheyAreNormalized) {
  nlohmann::json document = small_tokenizer_json();
  document["added_tokens"][1]["content"] = "{e\u0301}";
  EXPECT_THAT(make_tokenizer(document).encode("{\u00E9}{e\u0301}"), ElementsAre(kSmallTool, kSmallTool));
  document["added_tokens"][1]["normalized"] = false;
  EXPECT_THAT(make_tokenizer(document).encode("{e\u0301}{\u00E9}"), ElementsAre(kSmallTool, '{', 261, '}'));
}

TEST(AddedTokens, HaveTheIdOfTheVocabularyIfTheyAreInIt) {
  nlohmann::json document = small_tokenizer_json();
  document["added_tokens"][1]["content"] = "the";
  const Tokenizer tokenizer = make_tokenizer(document);
  EXPECT_THAT(tokenizer.encode("the"), ElementsAre(257));
  EXPECT_EQ(tokenizer.decode(std::vector<int>{257}), "the");
}

}  // namespace
}  // namespace sluice::model
