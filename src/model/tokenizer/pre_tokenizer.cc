#include "model/tokenizer/pre_tokenizer.h"

#include <utility>

#include "base/error.h"

namespace sluice::model {
namespace {

/// How GPT-2 cut its text, and what ByteLevel means by `use_regex`.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Part {
  TextRange range;
  bool is_match;
};

/// The matches and what is left between them; together all of `text`.
std::vector<Part> cut(std::string_view text, const std::vector<TextRange>& matches) {
  std::vector<Part> parts;
  std::size_t end = 0;
  for (const TextRange& match : matches) {
    if (match.begin > end) parts.push_back({{end, match.begin}, false});
    parts.push_back({match, true});
    end = match.end;
  }
  if (end < text.size()) parts.push_back({{end, text.size()}, false});
  return parts;
}

/// Whether `right` continues the piece that ends with `left`.
bool joins(SplitBehavior behavior, const Part& left, const Part& right) {
  switch (behavior) {
    case SplitBehavior::isolated:
    case SplitBehavior::removed:
      return false;
    case SplitBehavior::contiguous:
      return left.is_match == right.is_match;
    case SplitBehavior::merged_with_previous:
      return right.is_match && !left.is_match;
    case SplitBehavior::merged_with_next:
      return left.is_match && !right.is_match;
  }
  return false;
}

}  // namespace

PreTokenizer::PreTokenizer(const PreTokenizerSpec& spec, std::string_view file)
    : add_prefix_space_(spec.add_prefix_space) {
  const std::string subject = fmt::format("{}: pre_tokenizer", file);
  for (const SplitSpec& split : spec.splits) {
    const Regex::Syntax syntax = split.literal ? Regex::Syntax::literal : Regex::Syntax::oniguruma;
    splits_.push_back({Regex(split.pattern, syntax, subject), split.behavior, split.invert});
  }
  if (spec.use_gpt2_pattern) {
    byte_level_splits_.push_back(
        {Regex(kGpt2Pattern, Regex::Syntax::oniguruma, subject), SplitBehavior::isolated, false});
  }
}

void PreTokenizer::apply(const Split& split, Pieces& pieces) {
  std::vector<TextRange> ranges;
  for (const TextRange& piece : pieces.ranges) {
    const std::string_view text = std::string_view(pieces.text).substr(piece.begin, piece.end - piece.begin);
    const Part* left = nullptr;
    const std::vector<Part> parts = cut(text, split.regex.find_all(text));
    for (const Part& part : parts) {
      const bool is_match = part.is_match != split.invert;
      const TextRange range{piece.begin + part.range.begin, piece.begin + part.range.end};
      if (left != nullptr && joins(split.behavior, {left->range, left->is_match != split.invert}, {range, is_match})) {
        ranges.back().end = range.end;
      } else if (!(split.behavior == SplitBehavior::removed && is_match)) {
        ranges.push_back(range);
      }
      left = &part;
    }
  }
  std::erase_if(ranges, [](const TextRange& range) { return range.begin == range.end; });
  pieces.ranges = std::move(ranges);
}

Pieces PreTokenizer::split(std::string text) const {
  Pieces pieces{std::move(text), {}};
  if (pieces.text.empty()) return pieces;
  pieces.ranges.push_back({0, pieces.text.size()});
  for (const Split& split : splits_) apply(split, pieces);
  if (add_prefix_space_) {
    Pieces prefixed;
    for (const TextRange& range : pieces.ranges) {
      const std::size_t begin = prefixed.text.size();
      if (pieces.text[range.begin] != ' ') prefixed.text += ' ';
      prefixed.text.append(pieces.text, range.begin, range.end - range.begin);
      prefixed.ranges.push_back({begin, prefixed.text.size()});
    }
    pieces = std::move(prefixed);
  }
  for (const Split& split : byte_level_splits_) apply(split, pieces);
  return pieces;
}

}  // namespace sluice::model
