#include "model/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "model/tokenizer/unicode.h"

namespace sluice::model {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr std::size_t kStandIns = 68;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};            // byte -> character
  std::array<std::uint8_t, kStandIns> stood_for{};  // character - kFirstStandIn -> byte
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  std::size_t stand_ins = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (stands_for_itself(byte)) {
      alphabet.character[byte] = byte;
    } else {
      alphabet.character[byte] = kFirstStandIn + static_cast<char32_t>(stand_ins);
      alphabet.stood_for[stand_ins++] = static_cast<std::uint8_t>(byte);
    }
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string spell_bytes(std::string_view bytes) {
  std::string spelling;
  spelling.reserve(2 * bytes.size());
  for (const char byte : bytes) append_utf8(spelling, kAlphabet.character[static_cast<unsigned char>(byte)]);
  return spelling;
}

std::optional<std::string> read_spelled_bytes(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t at = 0; at < spelling.size();) {
    const Utf8Step step = utf8_step(spelling, at);
    const char32_t c = step.code_point;
    if (c >= kFirstStandIn && c < kFirstStandIn + kStandIns) {
      bytes += static_cast<char>(kAlphabet.stood_for[c - kFirstStandIn]);
    } else if (c < kFirstStandIn && stands_for_itself(c)) {
      bytes += static_cast<char>(c);
    } else {
      return std::nullopt;
    }
    at += step.length;
  }
  return bytes;
}

}  // namespace sluice::model
