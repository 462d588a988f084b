#include "model/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <new>
#include <vector>

#include "base/error.h"

namespace sluice::model {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

/// Every character below U+0300 is in form C and none of them combines, so text whose bytes are all below the first
/// byte of U+0300 needs no work: ASCII and Latin.
constexpr unsigned char kFirstByteThatCombines = 0xCC;

/// What the first byte of a sequence fixes: its length, and the range of the second byte.
struct LeadByte {
  std::uint8_t length;  // 0: cannot begin a sequence
  std::uint8_t second_low, second_high;
};

constexpr LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

int combining_class(utf8proc_int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }

/// Appends the full canonical decomposition of one character.
void append_decomposition(char32_t code_point, std::vector<utf8proc_int32_t>& out) {
  std::array<utf8proc_int32_t, 32> parts{};  // no canonical decomposition has more than 4 parts
  int last_boundary_class = 0;
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts.data(),
                                                         parts.size(), UTF8PROC_DECOMPOSE, &last_boundary_class);
  assert(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()));
  out.insert(out.end(), parts.begin(), parts.begin() + count);
}

/// Sorts every run of combining marks by class. utf8proc's own sort takes quadratic time on a long run.
void order_combining_marks(std::vector<utf8proc_int32_t>& text) {
  const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
  auto run = text.begin();
  while ((run = std::find_if(run, text.end(), is_mark)) != text.end()) {
    const auto end = std::find_if_not(run, text.end(), is_mark);
    std::stable_sort(run, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
}

/// Composes what can be composed, in place.
void compose(std::vector<utf8proc_int32_t>& text) {
  // utf8proc 2.8 takes U+11A7 behind a Hangul syllable for a part of it and drops it. It composes with nothing, so the
  // text before it and the text from it on can be composed apart.
  constexpr utf8proc_int32_t kNotATrailingConsonant = 0x11A7;
  auto out = text.begin();
  for (auto begin = text.begin(); begin != text.end();) {
    const auto end = std::find(begin + 1, text.end(), kNotATrailingConsonant);
    const utf8proc_ssize_t length = utf8proc_normalize_utf32(
        &*begin, end - begin, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    assert(length >= 0 && length <= end - begin);  // with these options it neither fails nor grows the text
    out = out == begin ? begin + length : std::copy(begin, begin + length, out);
    begin = end;
  }
  text.erase(out, text.end());
}

}  // namespace

Utf8Step utf8_step(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const LeadByte lead = lead_byte(first);
  if (lead.length == 0) return {Utf8Step::Kind::invalid, 1, kReplacement};
  if (lead.length == 1) return {Utf8Step::Kind::character, 1, first};
  char32_t code_point = first & (0x7FU >> lead.length);
  for (std::uint8_t i = 1; i < lead.length; ++i) {
    if (at + i == text.size()) return {Utf8Step::Kind::unfinished, i, kReplacement};
    const auto byte = static_cast<unsigned char>(text[at + i]);
    const unsigned low = i == 1 ? lead.second_low : 0x80;
    const unsigned high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Step::Kind::invalid, i, kReplacement};
    code_point = code_point << 6 | (byte & 0x3FU);
  }
  return {Utf8Step::Kind::character, lead.length, code_point};
}

void append_utf8(std::string& text, char32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  text.append(bytes.begin(), bytes.begin() + length);
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (step.kind != Utf8Step::Kind::character) return at;
    at += step.length;
  }
  return std::nullopt;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (step.kind == Utf8Step::Kind::character) {
      result.append(text, at, step.length);
    } else {
      append_utf8(result, kReplacement);
    }
    at += step.length;
  }
  return result;
}

std::size_t unfinished_utf8_suffix(std::string_view text) {
  for (std::size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const std::size_t at = text.size() - length;
    const bool continuation = (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80;
    if (continuation) continue;
    const Utf8Step step = utf8_step(text, at);
    return step.kind == Utf8Step::Kind::unfinished && step.length == length ? length : 0;
  }
  return 0;
}

std::string to_nfc(std::string_view text) {
  const auto combines = [](char c) { return static_cast<unsigned char>(c) >= kFirstByteThatCombines; };
  if (std::none_of(text.begin(), text.end(), combines)) return std::string(text);

  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    assert(step.kind == Utf8Step::Kind::character);
    append_decomposition(step.code_point, characters);
    at += step.length;
  }
  order_combining_marks(characters);
  compose(characters);

  std::string result;
  result.reserve(text.size());
  for (const utf8proc_int32_t c : characters) append_utf8(result, static_cast<char32_t>(c));
  return result;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word_character(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

}  // namespace sluice::model
