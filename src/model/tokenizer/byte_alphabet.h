// The spelling of bytes in the vocabularies of byte-level BPE.
//
// GPT-2 writes every token as text of printable characters: the bytes that are printable in Latin-1 stand for
// themselves, the other 68 are written as U+0100, U+0101, ... in ascending order. The space becomes U+0120.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::model {

/// Any bytes, spelled in the alphabet.
std::string spell_bytes(std::string_view bytes);

/// The bytes that `spelling` (valid UTF-8) stands for, or nothing if a character of it is not in the alphabet.
std::optional<std::string> read_spelled_bytes(std::string_view spelling);

}  // namespace sluice::model
