#include "model/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "model/json_file.h"
#include "model/tokenizer/added_tokens.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/pre_tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "model/tokenizer/unicode.h"

namespace sluice::model {
namespace {

// The largest in use (Gemma 3) has 33 MB.
constexpr std::uint64_t kMaxTokenizerBytes = 256 * kMiB;

// Far beyond any context. Keeps positions inside a piece below 2^32.
constexpr std::size_t kMaxTextBytes = kGiB;

/// All tokens, by spelling and by id.
struct Vocabulary {
  std::unordered_map<std::string, int> ids;  // as written in the file
  std::vector<std::string> bytes;            // by id; empty for the holes
  std::vector<bool> special;                 // by id

  /// Adds a token under a new id. Returns false if the id is taken.
  bool add(const std::string& spelling, int id, std::string token_bytes) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= bytes.size()) bytes.resize(index + 1);
    if (!bytes[index].empty()) return false;
    bytes[index] = std::move(token_bytes);
    ids.emplace(spelling, id);
    return true;
  }
};

Vocabulary read_vocabulary(const TokenizerJson& json, std::string_view file) {
  Vocabulary vocabulary;
  vocabulary.ids.reserve(json.vocabulary.size() + json.added_tokens.size());
  for (const auto& [spelling, id] : json.vocabulary) {
    if (spelling.empty()) fail("{}: model.vocab: id {} has an empty token", file, id);
    if (vocabulary.ids.contains(spelling)) fail("{}: model.vocab: '{}' is there twice", file, printable(spelling));
    // A token that is not in the byte alphabet, as special tokens often are, stands for its own text.
    std::string bytes = read_spelled_bytes(spelling).value_or(spelling);
    if (!vocabulary.add(spelling, id, std::move(bytes))) {
      fail("{}: model.vocab: '{}' has id {}, which another token has too", file, printable(spelling), id);
    }
  }
  return vocabulary;
}

/// Gives every added token its place in the vocabulary.
void add_tokens(std::vector<AddedToken>& tokens, Vocabulary& vocabulary, std::string_view file) {
  std::erase_if(tokens, [](const AddedToken& token) { return token.content.empty(); });
  for (AddedToken& token : tokens) {
    const auto known = vocabulary.ids.find(token.content);
    if (known != vocabulary.ids.end()) {
      token.id = known->second;  // as in the reference, the vocabulary knows better
    } else if (!vocabulary.add(token.content, token.id, token.content)) {
      fail("{}: added_tokens: '{}' has id {}, which another token has too", file, printable(token.content), token.id);
    }
  }
  vocabulary.special.resize(vocabulary.bytes.size());
  for (const AddedToken& token : tokens) {
    if (token.special) vocabulary.special[static_cast<std::size_t>(token.id)] = true;
  }
}

/// Whether a byte occurs in valid UTF-8.
bool occurs_in_utf8(unsigned byte) { return byte != 0xC0 && byte != 0xC1 && byte < 0xF5; }

Bpe make_bpe(const TokenizerJson& json, const Vocabulary& vocabulary, std::string_view file) {
  std::array<int, 256> byte_ids{};
  for (unsigned byte = 0; byte < byte_ids.size(); ++byte) {
    const auto id = vocabulary.ids.find(spell_bytes(std::string(1, static_cast<char>(byte))));
    if (id == vocabulary.ids.end() && occurs_in_utf8(byte)) {
      fail("{}: model.vocab: byte 0x{:02X} has no token; byte-level BPE needs one for every byte", file, byte);
    }
    byte_ids[byte] = id == vocabulary.ids.end() ? -1 : id->second;
  }

  const auto id_of = [&](const std::string& token, std::size_t rank) {
    const auto id = vocabulary.ids.find(token);
    if (id == vocabulary.ids.end()) {
      fail("{}: model.merges, entry {}: '{}' is not in the vocabulary", file, rank, printable(token));
    }
    return id->second;
  };
  std::vector<Merge> merges;
  merges.reserve(json.merges.size());
  for (const auto& [left, right] : json.merges) {
    const std::size_t rank = merges.size();
    merges.push_back({id_of(left, rank), id_of(right, rank), id_of(left + right, rank)});
  }
  return Bpe(byte_ids, merges);
}

/// The tokens that are looked for in the raw text, or in the normalized text.
AddedTokenFinder make_finder(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<const AddedToken*> chosen;
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) chosen.push_back(&token);
  }
  return AddedTokenFinder(chosen);
}

}  // namespace

struct Tokenizer::State {
  Vocabulary vocabulary;
  std::vector<AddedToken> added_tokens;  // content of the normalized ones in normal form; never resized
  AddedTokenFinder raw_finder;
  AddedTokenFinder normalized_finder;
  bool nfc;
  PreTokenizer pre_tokenizer;
  bool ignore_merges;
  Bpe bpe;

  /// Appends the ids of normalized text without added tokens.
  void encode_plain(std::string_view text, std::vector<int>& ids) const {
    const Pieces pieces = pre_tokenizer.split(std::string(text));
    for (const TextRange& range : pieces.ranges) {
      const std::string_view piece = std::string_view(pieces.text).substr(range.begin, range.end - range.begin);
      if (ignore_merges) {
        if (const auto whole = vocabulary.ids.find(spell_bytes(piece)); whole != vocabulary.ids.end()) {
          ids.push_back(whole->second);
          continue;
        }
      }
      bpe.encode(piece, ids);
    }
  }
};

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  return from_json(read_text_file(tokenizer_json, kMaxTokenizerBytes), tokenizer_json.string());
}

Tokenizer Tokenizer::from_json(std::string_view text, std::string_view name) {
  TokenizerJson json = parse_tokenizer_json(text, name);
  Vocabulary vocabulary = read_vocabulary(json, name);
  Bpe bpe = make_bpe(json, vocabulary, name);
  add_tokens(json.added_tokens, vocabulary, name);
  std::vector<AddedToken> added = std::move(json.added_tokens);
  for (AddedToken& token : added) {
    if (token.normalized && json.nfc) token.content = to_nfc(token.content);
  }
  // The finders point at the tokens, and moving a vector leaves its elements where they are.
  AddedTokenFinder raw_finder = make_finder(added, false);
  AddedTokenFinder normalized_finder = make_finder(added, true);
  return Tokenizer(std::make_unique<const State>(
      State{std::move(vocabulary), std::move(added), std::move(raw_finder), std::move(normalized_finder), json.nfc,
            PreTokenizer(json.pre_tokenizer, name), json.ignore_merges, std::move(bpe)}));
}

std::vector<int> Tokenizer::encode(std::string_view text, Special special) const {
  if (text.size() > kMaxTextBytes) {
    fail("text has {}, expected at most {}", format_bytes(text.size()), format_bytes(kMaxTextBytes));
  }
  if (const std::optional<std::size_t> offset = find_invalid_utf8(text)) {
    fail("text is not valid UTF-8: byte 0x{:02X} at offset {}", static_cast<unsigned char>(text[*offset]), *offset);
  }
  const bool special_as_text = special == Special::as_text;
  std::vector<int> ids;
  for (const Segment& raw : state_->raw_finder.split(text, special_as_text)) {
    if (raw.token != nullptr) {
      ids.push_back(raw.token->id);
      continue;
    }
    const std::string normalized = state_->nfc ? to_nfc(raw.text) : std::string(raw.text);
    for (const Segment& segment : state_->normalized_finder.split(normalized, special_as_text)) {
      if (segment.token != nullptr) {
        ids.push_back(segment.token->id);
      } else {
        state_->encode_plain(segment.text, ids);
      }
    }
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int> ids) const {
  std::string bytes;
  for (const int id : ids) bytes += token_bytes(id);
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int id) const {
  if (id < 0 || id >= vocabulary_size()) return {};
  return state_->vocabulary.bytes[static_cast<std::size_t>(id)];
}

int Tokenizer::vocabulary_size() const { return static_cast<int>(state_->vocabulary.bytes.size()); }

std::optional<int> Tokenizer::token_id(std::string_view token) const {
  const auto id = state_->vocabulary.ids.find(std::string(token));
  return id == state_->vocabulary.ids.end() ? std::nullopt : std::optional<int>(id->second);
}

bool Tokenizer::is_special(int id) const {
  return id >= 0 && id < vocabulary_size() && state_->vocabulary.special[static_cast<std::size_t>(id)];
}

std::string StreamDecoder::push(int id) {
  if (tokenizer_->is_special(id)) return {};
  pending_ += tokenizer_->token_bytes(id);
  const std::size_t ready = pending_.size() - unfinished_utf8_suffix(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, ready));
  pending_.erase(0, ready);
  return text;
}

std::string StreamDecoder::finish() { return replace_invalid_utf8(std::exchange(pending_, {})); }

}  // namespace sluice::model
