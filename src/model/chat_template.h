// Turning a conversation into the text that a chat model was trained on.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sluice::model {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

/// The chat template of a model. So far only ChatML is built, which is recognised by its exact template text; another
/// template is refused, because text in the wrong form makes a model answer badly without any visible error. A template
/// engine goes behind this class.
class ChatTemplate {
 public:
  /// Reads chat_template.jinja, or else `chat_template` of tokenizer_config.json. Throws Error naming the file if
  /// there is no template or one that is not supported.
  static ChatTemplate load(const std::filesystem::path& model_directory);

  /// The template in `source`; `origin` says where it is from in messages.
  static ChatTemplate parse(std::string_view source, std::string_view origin);

  /// The text of `messages`. With `add_generation_prompt` it ends where the assistant's answer begins. Special tokens
  /// in the result are meant to be parsed (Tokenizer::Special::parse); the contents are inserted as they are.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  ChatTemplate() = default;
};

}  // namespace sluice::model
