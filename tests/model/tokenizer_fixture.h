// A small tokenizer for tests, as a document to change.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/tokenizer.h"

namespace sluice::model {

inline constexpr int kSmallEnd = 300;   // <|end|>, special
inline constexpr int kSmallTool = 301;  // <tool>, not special

/// tokenizer.json of a byte-level BPE: byte b has id b, then a few merges, NFC, the GPT-2 pattern, two added tokens.
inline nlohmann::json small_tokenizer_json() {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[spell_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  nlohmann::json merges = nlohmann::json::array();
  int next_id = 256;
  const auto merge = [&](const std::string& left, const std::string& right) {
    merges.push_back({spell_bytes(left), spell_bytes(right)});
    vocabulary[spell_bytes(left + right)] = next_id++;
  };
  merge("h", "e");
  merge("t", "he");
  merge(" ", "the");
  merge("a", "a");
  merge("aa", "aa");
  merge("\xC3", "\xA9");  // é
  merge("\xE6\x97", "\xA5");
  merge("\xE6", "\x97");
  const auto added = [](int id, const char* content, bool special) {
    return nlohmann::json{{"id", id},        {"content", content}, {"special", special},    {"single_word", false},
                          {"lstrip", false}, {"rstrip", false},    {"normalized", !special}};
  };
  return {{"version", "1.0"},
          {"added_tokens", {added(kSmallEnd, "<|end|>", true), added(kSmallTool, "<tool>", false)}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

inline Tokenizer make_tokenizer(const nlohmann::json& document) {
  return Tokenizer::from_json(document.dump(), "tokenizer.json");
}

/// The tokens of `text`, one string of raw bytes each.
inline std::vector<std::string> token_texts(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> texts;
  for (const int id : tokenizer.encode(text)) texts.emplace_back(tokenizer.token_bytes(id));
  return texts;
}

}  // namespace sluice::model
