#include "model/tokenizer_fuzz_target.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/unicode.h"

namespace sluice::fuzz {
namespace {

void require(bool condition, const char* promise) {
  if (!condition) throw std::logic_error(std::string("broken promise: ") + promise);
}

}  // namespace

void tokenizer_json(std::span<const std::byte> input) {
  const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  try {
    const model::Tokenizer tokenizer = model::Tokenizer::from_json(text, "file");
    const std::vector<int> ids = tokenizer.encode("The the aaaa 12's e\u0301 \u65E5\u672C <|end|> <tool>\r\n\t  x");
    for (const int id : ids) require(id >= 0 && id < tokenizer.vocabulary_size(), "ids are in the vocabulary");
    require(!model::find_invalid_utf8(tokenizer.decode(ids)), "decoded text is UTF-8");
    model::StreamDecoder decoder(tokenizer);
    std::string streamed;
    for (const int id : ids) streamed += decoder.push(id);
    streamed += decoder.finish();
    require(!model::find_invalid_utf8(streamed), "streamed text is UTF-8");
  } catch (const Error& error) {
    const std::string_view message = error.what();
    require(message.starts_with("file: "), "the message begins with the file");
    require(message.size() < 1000, "the message is of bounded length");
    const auto is_control = [](char character) { return static_cast<unsigned char>(character) < 0x20; };
    require(std::none_of(message.begin(), message.end(), is_control), "the message holds no control characters");
  }
}

}  // namespace sluice::fuzz
