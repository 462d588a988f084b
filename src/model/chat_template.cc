#include "model/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "model/config.h"
#include "model/json_file.h"

namespace sluice::model {
namespace {

/// The spellings of ChatML in use. Jinja reads a line break inside a string literal like "\n", and ignores blanks
/// beside the braces.
constexpr std::array<std::string_view, 4> kChatMl = {
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"};

}  // namespace

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_directory) {
  const std::filesystem::path jinja = model_directory / "chat_template.jinja";
  if (file_exists(jinja)) return parse(read_text_file(jinja, kMaxConfigBytes), jinja.string());

  const std::filesystem::path path = model_directory / "tokenizer_config.json";
  if (!file_exists(path)) {
    fail("{}: has no chat template, neither chat_template.jinja nor tokenizer_config.json; use raw text (--no-chat)",
         model_directory.string());
  }
  const Config config = Config::parse(read_text_file(path, kMaxConfigBytes), path.string());
  if (!config.has("chat_template")) fail("{}: has no chat_template; use raw text (--no-chat)", path.string());
  return parse(config.string("chat_template"), path.string());
}

ChatTemplate ChatTemplate::parse(std::string_view source, std::string_view origin) {
  if (source.ends_with('\n')) source.remove_suffix(1);  // as Jinja does
  if (std::find(kChatMl.begin(), kChatMl.end(), source) == kChatMl.end()) {
    fail("{}: the chat template is not supported, only plain ChatML is built so far; use raw text (--no-chat)", origin);
  }
  return {};
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  std::string text;
  for (const ChatMessage& message : messages) {
    text.append("<|im_start|>").append(message.role).append("\n").append(message.content).append("<|im_end|>\n");
  }
  if (add_generation_prompt) text += "<|im_start|>assistant\n";
  return text;
}

}  // namespace sluice::model
