// Where generation ends and how the authors of a model would sample, from its directory.
#include "model/stop_tokens.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tokenizer_fixture.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using stream::ScratchDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kModel = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";

TEST(StopTokens, AreThoseOfTheEmbeddedModel) {
  EXPECT_THAT(load_stop_tokens(kModel, nullptr), ElementsAre(8189, 8191));
  const Tokenizer tokenizer = Tokenizer::load(kModel / "tokenizer.json");
  EXPECT_THAT(load_stop_tokens(kModel, &tokenizer), ElementsAre(8189, 8191));
}

TEST(StopTokens, AreCollectedFromAllFiles) {
  const ScratchDirectory directory;
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  EXPECT_THAT(load_stop_tokens(directory.path(), &tokenizer), ElementsAre());
  directory.write("config.json", R"({"eos_token_id": 7})");
  EXPECT_THAT(load_stop_tokens(directory.path(), &tokenizer), ElementsAre(7));
  directory.write("generation_config.json", R"({"eos_token_id": [9, 7, 3]})");
  EXPECT_THAT(load_stop_tokens(directory.path(), &tokenizer), ElementsAre(3, 7, 9));
  for (const char* eos : {R"("<|end|>")", R"({"content": "<|end|>", "lstrip": false})"}) {
    directory.write("tokenizer_config.json", fmt::format(R"({{"eos_token": {}}})", eos));
    EXPECT_THAT(load_stop_tokens(directory.path(), &tokenizer), ElementsAre(3, 7, 9, kSmallEnd));
    EXPECT_THAT(load_stop_tokens(directory.path(), nullptr), ElementsAre(3, 7, 9));
  }
}

TEST(StopTokens, MayBeAbsentOrNone) {
  const ScratchDirectory directory;
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  directory.write("config.json", R"({"eos_token_id": null, "theta": Infinity})");
  directory.write("generation_config.json", R"({"eos_token_id": -1})");
  directory.write("tokenizer_config.json", R"({"eos_token": null})");
  EXPECT_THAT(load_stop_tokens(directory.path(), &tokenizer), ElementsAre());
}

TEST(StopTokens, NameTheFileAndTheKeyThatIsBroken) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  const auto message = [&](const char* file, const char* content) {
    const ScratchDirectory directory;
    directory.write(file, content);
    return message_of<Error>([&] { load_stop_tokens(directory.path(), &tokenizer); });
  };
  for (const char* value : {"\"x\"", "1.5", "[1, \"x\"]", "[[1]]", "true", "4294967301", "{}"}) {
    const std::string content = fmt::format(R"({{"eos_token_id": {}}})", value);
    EXPECT_THAT(message("config.json", content.c_str()), HasSubstr("config.json: 'eos_token_id'")) << value;
  }
  EXPECT_THAT(message("generation_config.json", "{"), HasSubstr("generation_config.json: not valid JSON"));
  EXPECT_THAT(message("generation_config.json", "[]"), HasSubstr("generation_config.json: "));
  for (const char* value : {"5", "[]", "{}", R"({"content": 5})", R"("<|unknown|>")"}) {
    const std::string content = fmt::format(R"({{"eos_token": {}}})", value);
    EXPECT_THAT(message("tokenizer_config.json", content.c_str()), HasSubstr("tokenizer_config.json: 'eos_token'"));
  }
}

TEST(GenerationDefaults, AreThoseOfTheEmbeddedModel) {
  const GenerationDefaults defaults = load_generation_defaults(kModel);
  EXPECT_EQ(defaults.do_sample, true);
  EXPECT_EQ(defaults.temperature, 0.7F);
  EXPECT_EQ(defaults.top_k, 40);
  EXPECT_EQ(defaults.top_p, 0.9F);
  EXPECT_EQ(defaults.min_p, std::nullopt);
  EXPECT_EQ(defaults.repetition_penalty, 1.1F);
}

TEST(GenerationDefaults, AreEmptyWhereTheFileSaysNothing) {
  const ScratchDirectory directory;
  for (int i = 0; i < 2; ++i) {
    const GenerationDefaults defaults = load_generation_defaults(directory.path());
    EXPECT_FALSE(defaults.do_sample || defaults.temperature || defaults.top_k || defaults.top_p || defaults.min_p ||
                 defaults.repetition_penalty);
    directory.write("generation_config.json", R"({"temperature": null, "max_length": 5})");
  }
}

TEST(GenerationDefaults, NameTheFileAndTheKeyOutOfRange) {
  const auto read = [](const std::string& content) {
    const ScratchDirectory directory;
    directory.write("generation_config.json", content);
    return load_generation_defaults(directory.path());
  };
  EXPECT_EQ(read(R"({"top_k": -1})").top_k, 0);
  EXPECT_EQ(read(R"({"top_k": 0})").top_k, 0);
  for (const char* member :
       {R"("temperature": -1)", R"("temperature": Infinity)", R"("temperature": NaN)", R"("temperature": "hot")",
        R"("top_p": 0)", R"("top_p": 1.01)", R"("min_p": -0.1)", R"("min_p": 2)", R"("repetition_penalty": 0)",
        R"("top_k": -2)", R"("top_k": 2.5)", R"("top_k": 1e12)", R"("do_sample": 1)"}) {
    const std::string key(member + 1, std::string_view(member).find("\":") - 1);
    EXPECT_THAT(message_of<Error>([&] { read(fmt::format("{{{}}}", member)); }),
                HasSubstr("generation_config.json: '" + key + "' is "))
        << member;
  }
  EXPECT_THAT(message_of<Error>([&] { read("nonsense"); }), HasSubstr("generation_config.json: not valid JSON"));
}

}  // namespace
}  // namespace sluice::model
