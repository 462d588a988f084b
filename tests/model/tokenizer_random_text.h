// Random valid UTF-8 for tests.
#pragma once

#include <cstddef>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/tokenizer/unicode.h"

namespace sluice::model {

/// Up to 40 characters of every length, kind and script, with many that combine.
inline std::string random_text(std::mt19937& random) {
  static const std::vector<std::pair<char32_t, char32_t>> kRanges = {
      {0x00, 0x7F},     {0x20, 0x20},     {0x0A, 0x0D},     {0x61, 0x7A},       {0x30, 0x39},     {0xA0, 0x17F},
      {0x300, 0x33F},   {0x391, 0x3C9},   {0x900, 0x97F},   {0x1100, 0x11FF},   {0x1E00, 0x1FFF}, {0x2000, 0x206F},
      {0x3040, 0x30FF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0x1F300, 0x1F64F}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}};
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  std::string text;
  for (std::size_t length = below(40); length > 0; --length) {
    const auto [first, last] = kRanges[below(kRanges.size())];
    append_utf8(text, first + static_cast<char32_t>(below(last - first + 1)));
  }
  return text;
}

}  // namespace sluice::model
