// Recognising the chat template of a model, and rendering conversations.
#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/json_file.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using stream::ScratchDirectory;
using ::testing::HasSubstr;

const std::filesystem::path kModel = std::filesystem::path(SLUICE_SOURCE_DIR) / "models/inkwell-44m";

std::string embedded_source() {
  return parse_json_file(kModel / "tokenizer_config.json").at("chat_template").get<std::string>();
}

TEST(ChatTemplate, RendersTheEmbeddedModelsConversations) {
  const ChatTemplate chat = ChatTemplate::load(kModel);
  const std::vector<ChatMessage> messages = {{"system", "Be brief."}, {"user", "Hello\n"}, {"assistant", ""}};
  const std::string text =
      "<|im_start|>system\nBe "
      "brief.<|im_end|>\n<|im_start|>user\nHello\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n";
  EXPECT_EQ(chat.render(messages, false), text);
  EXPECT_EQ(chat.render(messages, true), text + "<|im_start|>assistant\n");
  EXPECT_EQ(chat.render({}, true), "<|im_start|>assistant\n");
  EXPECT_EQ(chat.render({}, false), "");
}

TEST(ChatTemplate, RecognisesOtherSpellings) {
  std::string source = embedded_source();
  EXPECT_NO_THROW(ChatTemplate::parse(source, "file"));
  EXPECT_NO_THROW(ChatTemplate::parse(source + "\n", "file"));
  for (std::size_t at = 0; (at = source.find('\n', at)) != std::string::npos; ++at) source.replace(at, 1, "\\n");
  EXPECT_NO_THROW(ChatTemplate::parse(source, "file"));
}

TEST(ChatTemplate, RefusesAnyOtherTemplate) {
  const std::string source = embedded_source();
  for (std::size_t at = 0; at < source.size(); ++at) {
    std::string other = source;
    other.erase(at, 1);
    // Erasing the blank beside a brace may lead to another spelling; none is left with one blank of a pair.
    EXPECT_THROW(ChatTemplate::parse(other, "file"), Error) << other;
  }
  EXPECT_EQ(message_of<Error>([&] { ChatTemplate::parse(source + "\n\n", "dir/chat_template.jinja"); }),
            "dir/chat_template.jinja: the chat template is not supported, only plain ChatML is built so far; "
            "use raw text (--no-chat)");
  EXPECT_THROW(ChatTemplate::parse("", "file"), Error);
}

TEST(ChatTemplate, PrefersTheFileOfItsOwn) {
  const ScratchDirectory directory;
  directory.write("tokenizer_config.json", R"({"chat_template": "{{ messages }}"})");
  EXPECT_THAT(message_of<Error>([&] { ChatTemplate::load(directory.path()); }),
              HasSubstr("tokenizer_config.json: the chat template is not supported"));
  directory.write("chat_template.jinja", embedded_source() + "\n");
  EXPECT_NO_THROW(ChatTemplate::load(directory.path()));
  directory.write("chat_template.jinja", "{{ messages }}");
  EXPECT_THAT(message_of<Error>([&] { ChatTemplate::load(directory.path()); }),
              HasSubstr("chat_template.jinja: the chat template is not supported"));
}

TEST(ChatTemplate, NamesWhatIsMissingOrBroken) {
  const ScratchDirectory directory;
  const auto message = [&] { return message_of<Error>([&] { ChatTemplate::load(directory.path()); }); };
  EXPECT_THAT(message(), HasSubstr(directory.path().string() + ": has no chat template"));
  directory.write("tokenizer_config.json", "{}");
  EXPECT_THAT(message(), HasSubstr("tokenizer_config.json: has no chat_template; use raw text (--no-chat)"));
  directory.write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "x"}]})");
  EXPECT_THAT(message(), HasSubstr("tokenizer_config.json: 'chat_template'"));
  directory.write("tokenizer_config.json", "{");
  EXPECT_THAT(message(), HasSubstr("tokenizer_config.json: not valid JSON"));
}

}  // namespace
}  // namespace sluice::model
