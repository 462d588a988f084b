// Cutting text into the pieces inside which BPE merges.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/regex.h"
#include "model/tokenizer/tokenizer_json.h"

namespace sluice::model {

/// A text and its pieces, in order. Bytes outside of every piece are dropped.
struct Pieces {
  std::string text;
  std::vector<TextRange> ranges;  // not empty, ascending, not overlapping
};

/// Immutable; split() may be called from several threads.
class PreTokenizer {
 public:
  /// Throws Error beginning with `file` if a pattern cannot be compiled.
  PreTokenizer(const PreTokenizerSpec& spec, std::string_view file);

  /// The pieces of `text` (valid UTF-8). Every split of the file cuts the pieces of the one before it.
  Pieces split(std::string text) const;

 private:
  struct Split {
    Regex regex;
    SplitBehavior behavior;
    bool invert;
  };
  static void apply(const Split& split, Pieces& pieces);

  std::vector<Split> splits_;
  bool add_prefix_space_;
  std::vector<Split> byte_level_splits_;  // at most one; after the prefix space
};

}  // namespace sluice::model
