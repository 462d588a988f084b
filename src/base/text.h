// Small helpers for text that people typed.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sluice {

/// The candidate with the smallest edit distance to `text`; the first of equals. `candidates` is not empty.
std::string_view nearest(std::string_view text, std::span<const std::string_view> candidates);

/// `text` from an untrusted file, for a one-line message: control characters escaped, those of
/// Latin-1 too, because a terminal obeys them; cut after about `longest` bytes, between characters.
std::string printable(std::string_view text, std::size_t longest = 120);

}  // namespace sluice
