// tokenizer.json as untrusted input: what is read, what is refused and how, and random damage.
#include "model/tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tokenizer_fixture.h"
#include "model/tokenizer_fuzz_target.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TokenizerJson parse(const json& document) { return parse_tokenizer_json(document.dump(), "file"); }

TEST(TokenizerJson, ReadsEverything) {
  const json document = json::parse(R"({
    "added_tokens": [{"id": 9, "content": "<a>", "single_word": true, "lstrip": true, "rstrip": true,
                      "normalized": true, "special": true},
                     {"id": 8, "content": "<b>", "special": true}, {"id": 7, "content": "<c>"}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "MergedWithNext", "invert": true},
      {"type": "Split", "pattern": {"String": "y"}, "behavior": "Removed"},
      {"type": "Digits", "individual_digits": true}, {"type": "Digits"},
      {"type": "ByteLevel"}]},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "ignore_merges": true, "byte_fallback": true, "dropout": 0.0, "unk_token": null,
              "end_of_word_suffix": "", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"], "ab a"]}})");
  const TokenizerJson read = parse(document);
  EXPECT_THAT(read.vocabulary, ::testing::UnorderedElementsAre(Pair("a", 0), Pair("b", 1), Pair("ab", 2)));
  EXPECT_THAT(read.merges, ElementsAre(Pair("a", "b"), Pair("ab", "a")));
  EXPECT_TRUE(read.ignore_merges);
  EXPECT_TRUE(read.nfc);
  ASSERT_EQ(read.added_tokens.size(), 3);
  const AddedToken& full = read.added_tokens[0];
  EXPECT_EQ(full.id, 9);
  EXPECT_EQ(full.content, "<a>");
  EXPECT_TRUE(full.single_word && full.lstrip && full.rstrip && full.normalized && full.special);
  EXPECT_FALSE(read.added_tokens[1].normalized) << "special tokens are not, unless they say so";
  EXPECT_TRUE(read.added_tokens[2].normalized);
  const PreTokenizerSpec& pre_tokenizer = read.pre_tokenizer;
  ASSERT_EQ(pre_tokenizer.splits.size(), 4);
  EXPECT_EQ(pre_tokenizer.splits[0].pattern, "x+");
  EXPECT_EQ(pre_tokenizer.splits[0].behavior, SplitBehavior::merged_with_next);
  EXPECT_TRUE(pre_tokenizer.splits[0].invert);
  EXPECT_FALSE(pre_tokenizer.splits[0].literal);
  EXPECT_EQ(pre_tokenizer.splits[1].behavior, SplitBehavior::removed);
  EXPECT_TRUE(pre_tokenizer.splits[1].literal);
  EXPECT_EQ(pre_tokenizer.splits[2].behavior, SplitBehavior::isolated);
  EXPECT_EQ(pre_tokenizer.splits[3].behavior, SplitBehavior::contiguous);
  EXPECT_TRUE(pre_tokenizer.add_prefix_space) << "the default of the format";
  EXPECT_TRUE(pre_tokenizer.use_gpt2_pattern);
}

TEST(TokenizerJson, ReadsAFileWithoutOptionalParts) {
  json document = small_tokenizer_json();
  for (const char* part : {"added_tokens", "normalizer", "version"}) document.erase(part);
  document["model"].erase("type");
  document["model"].erase("merges");
  const TokenizerJson read = parse(document);
  EXPECT_FALSE(read.nfc);
  EXPECT_TRUE(read.added_tokens.empty());
  EXPECT_TRUE(read.merges.empty());
}

struct Refusal {
  const char* pointer;  // JSON pointer to what is changed
  const char* value;    // to this
  const char* message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.pointer << " = " << refusal.value; }

class TokenizerRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(TokenizerRefusal, NamesThePart) {
  json document = small_tokenizer_json();
  document[json::json_pointer(GetParam().pointer)] = json::parse(GetParam().value);
  const std::string message = stream::message_of<Error>([&] { make_tokenizer(document); });
  EXPECT_THAT(message, HasSubstr(std::string("tokenizer.json: ") + GetParam().message));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerRefusal,
    ::testing::Values(
        Refusal{"", "[]", "is array, expected an object"}, Refusal{"/model", "null", "model: is missing"},
        Refusal{"/model", "3", "model: is number, expected an object"},
        Refusal{"/model", R"({"type": "Unigram", "vocab": [["a", -1.5]]})",
                "model.type: is 'Unigram'; only byte-level BPE"},
        Refusal{"/model/type", R"("WordPiece")", "model.type: is 'WordPiece'; only byte-level BPE"},
        Refusal{"/model/vocab", "{}", "model.vocab: is missing or empty"},
        Refusal{"/model/vocab", "[1, 2]", "model.vocab: is array, expected an object"},
        Refusal{"/model/vocab/a", "-1", "model.vocab, token 'a': is -1, expected a token id from 0 to 4194303"},
        Refusal{"/model/vocab/a", "4194304", "model.vocab, token 'a': is 4194304"},
        Refusal{"/model/vocab/a", "18446744073709551615", "model.vocab, token 'a': is 18446744073709551615"},
        Refusal{"/model/vocab/a", "1.5", "model.vocab, token 'a': is 1.5, expected"},
        Refusal{"/model/vocab/a", "98", "model.vocab: 'b' has id 98, which another token has too"},
        Refusal{"/model/vocab/", "290", "model.vocab: id 290 has an empty token"},
        Refusal{"/model/merges", R"({"a": "b"})", "model.merges, entry 0"},
        Refusal{"/model/merges/0", R"("a")", R"(model.merges, entry 0: is "a", expected two tokens)"},
        Refusal{"/model/merges/1", R"("a b c")", "model.merges, entry 1"},
        Refusal{"/model/merges/1", R"(["a", "b", "c"])", "model.merges, entry 1"},
        Refusal{"/model/merges/1", "7", "model.merges, entry 1"},
        Refusal{"/model/merges/2", R"(["a", "b"])", "model.merges, entry 2: 'ab' is not in the vocabulary"},
        Refusal{"/model/dropout", "0.1", "model.dropout: is 0.1"},
        Refusal{"/model/end_of_word_suffix", R"("</w>")", "model.end_of_word_suffix: is '</w>'"},
        Refusal{"/model/ignore_merges", "1", "model.ignore_merges: is number, expected true or false"},
        Refusal{"/normalizer", R"({"type": "Lowercase"})", "normalizer: 'Lowercase\' is not supported"},
        Refusal{"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]})",
                "normalizer: 'NFKC\' is not supported"},
        Refusal{"/normalizer", R"({"kind": 1})", "normalizer.type: is missing"},
        Refusal{"/pre_tokenizer", "null", "pre_tokenizer: has no ByteLevel"},
        Refusal{"/pre_tokenizer", R"({"type": "Metaspace"})", "pre_tokenizer: 'Metaspace\' is not supported"},
        Refusal{"/pre_tokenizer",
                R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})",
                "pre_tokenizer: 'Digits\' after ByteLevel"},
        Refusal{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})",
                "pre_tokenizer: has no ByteLevel"},
        Refusal{"/pre_tokenizer",
                R"({"type": "Sequence", "pretokenizers": [
                  {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}, {"type": "ByteLevel"}]})",
                "pre_tokenizer: pattern '(\': missing closing parenthesis"},
        Refusal{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Somehow"})",
                "pre_tokenizer.behavior: 'Somehow\' is not known"},
        Refusal{"/pre_tokenizer", R"({"type": "Split", "behavior": "Isolated"})", "pre_tokenizer.pattern: is missing"},
        Refusal{"/decoder", "null", "decoder: 'none\' is not supported, expected ByteLevel"},
        Refusal{"/decoder", R"({"type": "Fuse"})", "decoder: 'Fuse\' is not supported"},
        Refusal{"/added_tokens", "{}", "added_tokens: is object, expected an array"},
        Refusal{"/added_tokens/1/id", "null", "added_tokens[1].id: is missing, expected a token id"},
        Refusal{"/added_tokens/1/content", "5", "added_tokens[1].content: is number, expected a string"},
        Refusal{"/added_tokens/1/id", "5", "added_tokens: '<tool>\' has id 5, which another token has too"}));

TEST(TokenizerJson, NeedsATokenForEveryByteOfUtf8) {
  json document = small_tokenizer_json();
  for (const int byte : {0xC0, 0xC1, 0xF5, 0xFF}) {
    document["model"]["vocab"].erase(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  EXPECT_EQ(make_tokenizer(document).decode(make_tokenizer(document).encode("\u00E9")), "\u00E9");
  document["model"]["vocab"].erase(spell_bytes("\xF4"));
  EXPECT_THAT(stream::message_of<Error>([&] { make_tokenizer(document); }),
              HasSubstr("tokenizer.json: model.vocab: byte 0xF4 has no token"));
}

TEST(TokenizerJson, RefusesATokenThatIsThereTwice) {
  std::string text = small_tokenizer_json().dump();
  text.replace(text.find("\"b\":98"), 6, "\"a\":98");
  EXPECT_THAT(stream::message_of<Error>([&] { Tokenizer::from_json(text, "tokenizer.json"); }),
              HasSubstr("tokenizer.json: model.vocab: 'a\' is there twice"));
}

TEST(TokenizerJson, KeepsItsPromisesOnEveryPrefix) {
  const std::string text = small_tokenizer_json().dump();
  for (std::size_t bytes = 0; bytes < text.size(); bytes += 7) {
    EXPECT_THROW(Tokenizer::from_json(std::string_view(text).substr(0, bytes), "file"), Error) << bytes;
  }
}

TEST(TokenizerJson, KeepsItsPromisesUnderRandomDamage) {
  std::mt19937 random(7);
  const std::string whole = small_tokenizer_json().dump();
  const std::vector<std::string> pieces = {"{",    "}",      "[",    "]",    ",",          ":",           "\"",
                                           "null", "-1",     "1e99", "true", "4294967296", "\"vocab\":",  "\"a\"",
                                           "\\u0", "\xC3",   "\\",   "0",    "Infinity",   "\"merges\":", "\xF0\x9F",
                                           "NaN",  "\"(a*)", "(?",   "\n",   "\"id\":",    "[[[[[[[[",    "\"Split\""};
  for (int i = 0; i < 3000; ++i) {
    std::string text = whole;
    for (std::size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 12);
          break;
        case 2:
          text.insert(at, pieces[random() % pieces.size()]);
          break;
        default:
          text.replace(at, random() % 12, pieces[random() % pieces.size()]);
      }
    }
    ASSERT_NO_THROW(fuzz::tokenizer_json(std::as_bytes(std::span(text)))) << "damage " << i;
  }
}

}  // namespace
}  // namespace sluice::model
