// The content of a tokenizer.json, checked and reduced to what encoding and decoding need.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::model {

/// Ids end here: sixteen times the largest vocabulary in use, so that a lying file cannot ask for gigabytes.
inline constexpr int kMaxTokenIds = 1 << 22;

/// A token that is found in the text before anything else is done to it.
struct AddedToken {
  int id = 0;
  std::string content;
  bool special = false;      // controls the model; hidden from the reader
  bool single_word = false;  // only where no character of a word touches it
  bool lstrip = false;       // takes white space on its left with it
  bool rstrip = false;       // and on its right
  bool normalized = false;   // looked for in the normalized text
};

/// What a split does with the matches of its pattern and with the text between them.
enum class SplitBehavior : unsigned char {
  isolated,              // each is a piece of its own
  removed,               // matches are dropped
  merged_with_previous,  // a match ends the piece before it
  merged_with_next,      // a match begins the piece after it
  contiguous             // neighbouring matches are one piece
};

struct SplitSpec {
  std::string pattern;
  bool literal = false;  // the pattern is text, not a regular expression
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  // exchanges matches and what is between them
};

/// Splits in order, then ByteLevel.
struct PreTokenizerSpec {
  std::vector<SplitSpec> splits;
  bool add_prefix_space = false;  // ByteLevel puts a space before each piece that does not begin with one
  bool use_gpt2_pattern = false;  // and then cuts it with the pattern of GPT-2
};

struct TokenizerJson {
  std::vector<std::pair<std::string, int>> vocabulary;      // token in the byte alphabet -> id in [0, kMaxTokenIds)
  std::vector<std::pair<std::string, std::string>> merges;  // in rank order
  bool ignore_merges = false;                               // a piece that is a token is not built from merges
  bool nfc = false;                                         // normalizer
  PreTokenizerSpec pre_tokenizer;
  std::vector<AddedToken> added_tokens;
};

/// Reads untrusted `text`. Throws Error beginning with `file` and the part that is broken, or that belongs to a kind of
/// tokenizer other than byte-level BPE.
TokenizerJson parse_tokenizer_json(std::string_view text, std::string_view file);

}  // namespace sluice::model
