// Text to tokens and back: tokenizer.json of the byte-level BPE family (GPT-2, Qwen, Llama 3, gpt-oss, ...).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

/// Immutable after loading. encode() and decode() may be called from several threads.
class Tokenizer {
 public:
  /// Reads tokenizer.json as untrusted input. Throws Error naming the file and the part that is broken or not
  /// supported (normalizer, pre-tokenizer, model type ...).
  static Tokenizer load(const std::filesystem::path& tokenizer_json);
  /// The same from memory; `name` stands for the file in messages.
  static Tokenizer from_json(std::string_view json, std::string_view name);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Whether special tokens written out in the text ("<|im_end|>") become their ids or are split like any text. Added
  /// tokens that are not special always become their ids.
  enum class Special : unsigned char { parse, as_text };

  /// Ids of `text`. No begin or end tokens are added. Throws Error if the text is not valid UTF-8, naming the offset.
  std::vector<int> encode(std::string_view text, Special special = Special::parse) const;

  /// Text of `ids`, special tokens written out, one U+FFFD for each maximal part that is not valid UTF-8 (as the
  /// reference does). Unknown ids give nothing. decode(encode(text)) is the normalized text, except where an added
  /// token swallows white space or the pre-tokenizer removes or adds some.
  std::string decode(std::span<const int> ids) const;

  /// The raw bytes of one token (part of a UTF-8 sequence, possibly); empty for an unknown id.
  std::string_view token_bytes(int id) const;

  /// Largest id + 1.
  int vocabulary_size() const;
  /// The id of a token written as in the vocabulary or the added tokens ("<|im_end|>").
  std::optional<int> token_id(std::string_view token) const;
  /// Whether the id is an added token marked special: hidden from the text that a user reads.
  bool is_special(int id) const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

/// Incremental decoding for streaming: emits only whole UTF-8 sequences. Special tokens give no text, and do not break
/// a sequence whose bytes stand before and after them. What push() and finish() return, joined, equals decode() of the
/// ids that are not special.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  /// Text that became complete with this token, possibly empty.
  std::string push(int id);
  /// What is left at the end: U+FFFD for an unfinished sequence.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;  // bytes of an unfinished sequence, at most 3
};

}  // namespace sluice::model
