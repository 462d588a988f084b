#include "model/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer/unicode.h"

namespace sluice::model {
namespace {

// The longest pattern in use (gpt-oss) has 600 bytes.
constexpr std::size_t kMaxPatternBytes = 16 * 1024;

// Steps of backtracking that one match may take before it has to prove that it is worth more (see match_at()).
// Ordinary pieces take a few hundred; a run of spaces takes a few per space.
constexpr std::uint32_t kFreeSteps = 20'000;
constexpr std::uint32_t kStepsPerByte = 64;

// Memory for backtracking when a pattern does not fit the stack of the JIT.
constexpr std::uint32_t kHeapKiB = 64 * 1024;

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using CodePtr = std::unique_ptr<pcre2_code, Freed<pcre2_code_free>>;
using CompileContextPtr = std::unique_ptr<pcre2_compile_context, Freed<pcre2_compile_context_free>>;
using MatchContextPtr = std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>>;

template <typename T>
T* checked(T* object) {
  if (object == nullptr) throw std::bad_alloc();
  return object;
}

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// Members of the classes, to stand between brackets. PCRE2 counts U+180E as space and no mark as part of a word;
/// \h is a horizontal space there and a hexadecimal digit in Oniguruma.
std::string_view class_members(char letter) {
  switch (letter) {
    case 's':
    case 'S':
      return R"(\t-\r\x{85}\p{Z})";
    case 'w':
    case 'W':
      return R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})";
    case 'h':
    case 'H':
      return "0-9a-fA-F";
    default:
      return {};
  }
}

}  // namespace

std::string translate_oniguruma(std::string_view pattern, std::string_view subject) {
  std::string result;
  bool in_class = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const std::string_view rest = pattern.substr(at);
    if (rest.front() == '\\' && rest.size() > 1) {
      const char letter = rest[1];
      const bool negated = letter >= 'A' && letter <= 'Z';
      const std::string_view members = class_members(letter);
      if (members.empty() || (in_class && negated)) {
        result += rest.substr(0, 2);
      } else if (in_class) {
        result += members;
      } else {
        result.append(negated ? "[^" : "[").append(members).append("]");
      }
      ++at;
    } else if (!in_class) {
      result += rest.front();
      if (rest.front() != '[') continue;
      in_class = true;
      // A bracket that closes nothing is a member: [^]a].
      for (const char member : {'^', ']'}) {
        if (at + 1 < pattern.size() && pattern[at + 1] == member) result += pattern[++at];
      }
    } else if (rest.starts_with("[:")) {
      const std::size_t end = rest.find(":]");
      if (end == std::string_view::npos) fail("{}: pattern '{}': '[:' does not end", subject, printable(pattern));
      result += rest.substr(0, end + 2);
      at += end + 1;
    } else if (rest.front() == '[' || rest.starts_with("&&")) {
      fail("{}: pattern '{}': set operations inside a character class are not supported", subject, printable(pattern));
    } else {
      result += rest.front();
      in_class = rest.front() != ']';
    }
  }
  return result;
}

struct Regex::Code {
  std::string subject;
  std::string pattern;  // as in the file, for messages
  CodePtr code;

  /// What is needed to match, one per find_all() so that the code can be shared between threads.
  struct Scratch {
    MatchDataPtr data;
    MatchContextPtr context;
  };

  /// The match found at `at`, or nothing.
  std::optional<TextRange> match_at(std::string_view text, std::size_t at, const Scratch& scratch) const;
};

Regex::Regex(std::string_view pattern, Syntax syntax, std::string_view subject) {
  auto built = std::make_unique<Code>();
  built->subject = subject;
  built->pattern = pattern;
  if (pattern.size() > kMaxPatternBytes) fail("{}: a pattern of {} bytes is too long", subject, pattern.size());
  const bool literal = syntax == Syntax::literal;
  const std::string source = literal ? std::string(pattern) : translate_oniguruma(pattern, subject);

  const CompileContextPtr context(checked(pcre2_compile_context_create(nullptr)));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  // Anchored: find_all() moves the start itself, which bounds the work of every step. The flag must be given here:
  // given to pcre2_match() it would silently bypass the JIT. Multiline: ^ and $ are at lines in Oniguruma.
  const std::uint32_t options =
      PCRE2_UTF | PCRE2_ANCHORED | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
  int error = 0;
  PCRE2_SIZE offset = 0;
  built->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), options, &error, &offset,
                                  context.get()));
  if (built->code == nullptr) fail("{}: pattern '{}': {}", subject, printable(pattern), error_text(error));
  // Where the JIT is refused (a hardened kernel), pcre2_match() interprets: same matches, five times slower.
  pcre2_jit_compile(built->code.get(), PCRE2_JIT_COMPLETE);
  code_ = std::move(built);
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

std::optional<TextRange> Regex::Code::match_at(std::string_view text, std::size_t at, const Scratch& scratch) const {
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                       PCRE2_NO_UTF_CHECK | options, scratch.data.get(), scratch.context.get());
  };
  // The steps allowed grow only as far as the length of the match pays for them. A useful pattern takes a few steps
  // per byte of its piece; without the rule, a hostile one could take quadratic or exponential time.
  std::uint64_t steps = kFreeSteps;
  int result = 0;
  for (;; steps *= 4) {
    pcre2_set_match_limit(scratch.context.get(),
                          static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, UINT32_MAX)));
    result = match(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);
    if (result != PCRE2_ERROR_MATCHLIMIT || steps / kStepsPerByte > text.size() - at) break;
  }
  if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
    fail("{}: pattern '{}' at byte {} of the text: {}", subject, printable(pattern), at, error_text(result));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data.get());
  const std::size_t length = result < 0 ? 0 : bounds[1] - at;
  if (steps > kFreeSteps && length < steps / kStepsPerByte) {
    fail("{}: pattern '{}' takes too many steps at byte {} of the text", subject, printable(pattern), at);
  }
  if (result < 0) return std::nullopt;
  // \K moves the begin of a match; PCRE2 keeps it at or before the end.
  return TextRange{bounds[0], bounds[1]};
}

std::vector<TextRange> Regex::find_all(std::string_view text) const {
  const Code::Scratch scratch{MatchDataPtr(checked(pcre2_match_data_create(1, nullptr))),
                              MatchContextPtr(checked(pcre2_match_context_create(nullptr)))};
  pcre2_set_heap_limit(scratch.context.get(), kHeapKiB);
  std::vector<TextRange> matches;
  for (std::size_t at = 0; at <= text.size();) {
    const std::optional<TextRange> found = code_->match_at(text, at, scratch);
    const bool repeats = found && found->begin == found->end && !matches.empty() && matches.back().end == found->end;
    if (found && !repeats) matches.push_back(*found);
    if (found && found->end > at) {
      at = found->end;
    } else {
      at += at < text.size() ? utf8_step(text, at).length : 1;
    }
  }
  return matches;
}

}  // namespace sluice::model
