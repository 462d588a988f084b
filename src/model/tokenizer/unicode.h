// UTF-8 and the little of Unicode that a tokenizer needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::model {

/// What stands at one place of a byte string.
struct Utf8Step {
  enum class Kind : std::uint8_t {
    character,   // a whole sequence
    unfinished,  // the text ends inside a sequence that is right so far
    invalid      // bytes that no continuation would make valid
  };
  Kind kind;
  std::uint8_t
      length;  // bytes, 1 to 4: of the sequence, or of the longest part of it that is right ("maximal subpart")
  char32_t code_point;  // U+FFFD unless kind is character
};

/// The step at `at` (< text.size()), by table 3-7 of the Unicode standard: no overlong forms, no surrogates.
Utf8Step utf8_step(std::string_view text, std::size_t at);

void append_utf8(std::string& text, char32_t code_point);

/// Offset of the first byte that is not part of a whole valid sequence, or nothing.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

/// `text` with one U+FFFD for every maximal subpart that is not valid, as Python's bytes.decode(errors="replace").
std::string replace_invalid_utf8(std::string_view text);

/// How many bytes at the end (0 to 3) are an unfinished sequence.
std::size_t unfinished_utf8_suffix(std::string_view text);

/// Normalization form C of valid UTF-8. O(n log n) for any text.
std::string to_nfc(std::string_view text);

/// Property White_Space: what \s means to the reference tokenizers.
bool is_white_space(char32_t code_point);

/// A character of a word (\w): letters, marks, decimal digits, letter-like numbers, connecting punctuation.
bool is_word_character(char32_t code_point);

}  // namespace sluice::model
