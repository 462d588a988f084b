// Finding added tokens ("<|im_end|>") in a text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer/tokenizer_json.h"

namespace sluice::model {

/// A part of a text: an added token, or what stands between two of them.
struct Segment {
  std::string_view text;
  const AddedToken* token;  // null for text between tokens
};

/// The places where any of a set of tokens begins; the longest at each place counts. Immutable.
class AddedTokenFinder {
 public:
  /// `tokens` have content, and must outlive the finder at their present addresses.
  explicit AddedTokenFinder(std::span<const AddedToken* const> tokens);

  /// Cuts `text` (valid UTF-8) into its segments, from left to right, none of them empty. With `special_as_text`,
  /// tokens marked special stay part of the text around them.
  std::vector<Segment> split(std::string_view text, bool special_as_text) const;

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at) const;

  // A trie: node * 256 + byte -> child; node 0 is the root.
  std::unordered_map<std::uint64_t, std::uint32_t> children_;
  std::vector<const AddedToken*> ends_;  // by node: the token that ends there
};

}  // namespace sluice::model
