// Regular expressions of tokenizer files, executed by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

/// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin, end;
  bool operator==(const TextRange&) const = default;
};

/// A compiled pattern. Immutable; find_all() may be called from several threads.
class Regex {
 public:
  enum class Syntax : unsigned char {
    oniguruma,  // what the reference tokenizers use, translated to PCRE2 where the two differ
    literal     // the text itself
  };

  /// Throws Error beginning with `subject` (the file and part that the pattern is from) if the pattern is broken or
  /// uses something whose meaning PCRE2 does not share.
  Regex(std::string_view pattern, Syntax syntax, std::string_view subject);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// All matches in `text` (valid UTF-8), from left to right, not overlapping. An empty match right behind another
  /// match does not count. The pattern is untrusted: one that backtracks without end, or needs more memory than any
  /// tokenizer's, throws Error; the time is linear in the length of the text.
  std::vector<TextRange> find_all(std::string_view text) const;

 private:
  struct Code;
  std::unique_ptr<const Code> code_;
};

/// `pattern` with the character classes that Oniguruma and PCRE2 define differently written out: \s, \w and \h.
/// Throws Error beginning with `subject` on set operations inside a class, which PCRE2 lacks.
std::string translate_oniguruma(std::string_view pattern, std::string_view subject);

}  // namespace sluice::model
