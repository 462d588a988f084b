// Whole tokenizers: the embedded model's against its reference, and a small one against its rules.
#include "model/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "model/json_file.h"
#include "model/tokenizer_fixture.h"
#include "model/tokenizer_random_text.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kModel = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";

const Tokenizer& embedded() {
  static const Tokenizer tokenizer = Tokenizer::load(kModel / "tokenizer.json");
  return tokenizer;
}

TEST(TokenizerReference, EncodesAndDecodesEveryCase) {
  const nlohmann::json cases = parse_json_file(kModel / "reference/tokenizer_cases.json").at("cases");
  ASSERT_EQ(cases.size(), 291);
  for (const nlohmann::json& expected : cases) {
    const auto text = expected.at("text").get<std::string>();
    const auto ids = expected.at("ids").get<std::vector<int>>();
    EXPECT_EQ(embedded().encode(text), ids) << expected;
    EXPECT_EQ(embedded().decode(ids), expected.at("decoded").get<std::string>()) << expected;
  }
}

TEST(TokenizerReference, KnowsItsVocabulary) {
  EXPECT_EQ(embedded().vocabulary_size(), 8192);
  EXPECT_EQ(embedded().token_id("<|im_end|>"), 8191);
  EXPECT_EQ(embedded().token_id("\u0120the"), embedded().encode(" the").at(0));  // as spelled in the file
  EXPECT_EQ(embedded().token_id("no such token"), std::nullopt);
  EXPECT_TRUE(embedded().is_special(8191));
  EXPECT_FALSE(embedded().is_special(64));
  EXPECT_FALSE(embedded().is_special(-1));
  EXPECT_FALSE(embedded().is_special(8192));
}

TEST(TokenizerRoundTrip, GivesTheTextBackInNormalForm) {
  std::mt19937 random(1);
  const Tokenizer small = make_tokenizer(small_tokenizer_json());
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random);
    EXPECT_EQ(embedded().decode(embedded().encode(text)), to_nfc(text)) << ::testing::PrintToString(text);
    EXPECT_EQ(small.decode(small.encode(text)), to_nfc(text)) << ::testing::PrintToString(text);
  }
}

TEST(TokenizerRoundTrip, GivesTheTextBackAsItIsWithoutNormalizer) {
  std::mt19937 random(2);
  nlohmann::json document = small_tokenizer_json();
  document["normalizer"] = nullptr;
  const Tokenizer tokenizer = make_tokenizer(document);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = random_text(random);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << ::testing::PrintToString(text);
  }
}

TEST(TokenizerRoundTrip, LastsForLongPieces) {
  // A piece that is merged in quadratic time would run into the time limit of the test.
  for (const char* unit : {"a", " ", "!", "ab", "\u65E5", "e\u0301"}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    EXPECT_TRUE(embedded().decode(embedded().encode(text)) == to_nfc(text)) << unit;
  }
}

TEST(TokenizerEncode, NamesTheOffsetOfInvalidUtf8) {
  const auto message = [](std::string_view text) { return message_of<Error>([&] { embedded().encode(text); }); };
  EXPECT_EQ(message("abc\xFFxyz"), "text is not valid UTF-8: byte 0xFF at offset 3");
  EXPECT_EQ(message("\u65E5\xE6\x97"), "text is not valid UTF-8: byte 0xE6 at offset 3");
  EXPECT_EQ(message("\xED\xA0\x80"), "text is not valid UTF-8: byte 0xED at offset 0");  // a surrogate
}

TEST(TokenizerEncode, LeavesSpecialTokensInTheTextOnRequest) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  EXPECT_THAT(tokenizer.encode("a<|end|><tool>"), ElementsAre('a', kSmallEnd, kSmallTool));
  EXPECT_THAT(tokenizer.encode("a<|end|><tool>", Tokenizer::Special::as_text),
              ElementsAre('a', '<', '|', 'e', 'n', 'd', '|', '>', kSmallTool));
}

TEST(TokenizerEncode, TakesWholePiecesFromTheVocabularyIfMergesAreIgnored) {
  nlohmann::json document = small_tokenizer_json();
  document["model"]["vocab"]["quick"] = 270;  // no merge leads here
  EXPECT_EQ(make_tokenizer(document).encode("quick").size(), 5);
  document["model"]["ignore_merges"] = true;
  EXPECT_THAT(make_tokenizer(document).encode("quick"), ElementsAre(270));
  EXPECT_EQ(make_tokenizer(document).encode("quicks").size(), 6);
}

TEST(TokenizerEncode, ReadsMergesOfBothSpellings) {
  nlohmann::json document = small_tokenizer_json();
  const Tokenizer pairs = make_tokenizer(document);
  for (nlohmann::json& merge : document["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const Tokenizer strings = make_tokenizer(document);
  EXPECT_EQ(token_texts(strings, "the the aaaa"), token_texts(pairs, "the the aaaa"));
  EXPECT_THAT(token_texts(strings, "the the aaaa"), ElementsAre("the", " the", " ", "aaaa"));
}

TEST(TokenizerEncode, GivesTheSameFromSeveralThreads) {
  const std::string text = "The quick brown fox, 12 jumps.\n\n  <|im_end|> e\u0301\u65E5";
  const std::vector<int> expected = embedded().encode(text);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) EXPECT_EQ(embedded().encode(text), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenizerDecode, ReplacesWhatIsNotUtf8) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  EXPECT_EQ(tokenizer.decode(std::vector<int>{'a', 0xE6, 0x97, 'b'}), "a\uFFFDb");
  EXPECT_EQ(tokenizer.decode(std::vector<int>{0xE6, 0x97, 0xA5}), "\u65E5");
  EXPECT_EQ(tokenizer.decode(std::vector<int>{0xFF, 0xE6, kSmallEnd, 0xF0}), "\uFFFD\uFFFD<|end|>\uFFFD");
}

TEST(TokenizerDecode, GivesNothingForUnknownIds) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  EXPECT_EQ(tokenizer.decode(std::vector<int>{'a', -1, 280, 302, 1 << 30, 'b'}), "ab");  // 280 is a hole
  EXPECT_EQ(tokenizer.token_bytes(280), "");
  EXPECT_EQ(tokenizer.vocabulary_size(), 302);
}

TEST(StreamDecoder, JoinsToTheDecodedText) {
  std::mt19937 random(3);
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  for (int i = 0; i < 2000; ++i) {
    std::vector<int> ids(random() % 20);
    // Mostly bytes from 0x80 on: all ways to be invalid. Unknown ids too.
    for (int& id : ids) id = static_cast<int>(random() % 4 == 0 ? random() % 310 : 0x80 + random() % 0x80);
    StreamDecoder decoder(tokenizer);
    std::string text;
    for (const int id : ids) {
      const std::string part = decoder.push(id);
      EXPECT_EQ(find_invalid_utf8(part), std::nullopt);
      text += part;
    }
    text += decoder.finish();
    std::erase_if(ids, [&](int id) { return tokenizer.is_special(id); });
    EXPECT_EQ(text, tokenizer.decode(ids)) << ::testing::PrintToString(ids);
  }
}

TEST(StreamDecoder, GivesACharacterWithItsLastByte) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(kSmallEnd), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push(kSmallTool), "<tool>");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push('b'), "\uFFFDb");
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(TokenizerLoad, NamesTheFile) {
  EXPECT_THAT(message_of<Error>([] { Tokenizer::load(kModel / "absent.json"); }), HasSubstr("absent.json: no such"));
  EXPECT_THAT(message_of<Error>([] { Tokenizer::load(kModel); }), HasSubstr("inkwell-44m: is not a regular file"));
  const stream::ScratchDirectory directory;
  const auto path = directory.write("tokenizer.json", "{\n \"model\": {,}}");
  EXPECT_EQ(message_of<Error>([&] { Tokenizer::load(path); }).find(path.string() + ": not valid JSON at line 2"), 0);
}

}  // namespace
}  // namespace sluice::model
