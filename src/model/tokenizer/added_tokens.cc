#include "model/tokenizer/added_tokens.h"

#include "model/tokenizer/unicode.h"

namespace sluice::model {
namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
  return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
}

/// The character that ends right before `at`, or U+0000 at the begin of the text.
char32_t character_before(std::string_view text, std::size_t at) {
  if (at == 0) return 0;
  std::size_t begin = at - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) --begin;
  return utf8_step(text, begin).code_point;
}

char32_t character_at(std::string_view text, std::size_t at) {
  return at == text.size() ? 0 : utf8_step(text, at).code_point;
}

std::size_t white_space_before(std::string_view text, std::size_t at) {
  std::size_t begin = at;
  while (begin > 0 && is_white_space(character_before(text, begin))) {
    do --begin;
    while ((static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80);
  }
  return at - begin;
}

std::size_t white_space_after(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && is_white_space(character_at(text, end))) end += utf8_step(text, end).length;
  return end - at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::span<const AddedToken* const> tokens) : ends_(1, nullptr) {
  for (const AddedToken* token : tokens) {
    std::uint32_t node = 0;
    for (const char byte : token->content) {
      const auto [child, is_new] = children_.try_emplace(edge(node, byte), static_cast<std::uint32_t>(ends_.size()));
      if (is_new) ends_.push_back(nullptr);
      node = child->second;
    }
    ends_[node] = token;
  }
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text, std::size_t at) const {
  const AddedToken* longest = nullptr;
  std::uint32_t node = 0;
  for (; at < text.size(); ++at) {
    const auto child = children_.find(edge(node, text[at]));
    if (child == children_.end()) break;
    node = child->second;
    if (ends_[node] != nullptr) longest = ends_[node];
  }
  return longest;
}

std::vector<Segment> AddedTokenFinder::split(std::string_view text, bool special_as_text) const {
  std::vector<Segment> segments;
  std::size_t done = 0;  // end of the last segment
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;  // also past a match that does not count: the reference does not look inside it
    if (token->special && special_as_text) continue;
    const bool touches_word =
        is_word_character(character_before(text, begin)) || is_word_character(character_at(text, end));
    if (token->single_word && touches_word) continue;
    if (token->lstrip) begin = std::max(done, begin - white_space_before(text, begin));
    if (token->rstrip) end += white_space_after(text, end);
    if (begin > done) segments.push_back({text.substr(done, begin - done), nullptr});
    segments.push_back({text.substr(begin, end - begin), token});
    at = done = end;
  }
  if (done < text.size()) segments.push_back({text.substr(done), nullptr});
  return segments;
}

}  // namespace sluice::model
