#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>
#include <queue>

namespace sluice::model {
namespace {

constexpr std::uint64_t kNoPair = ~std::uint64_t{0};  // ids are not negative, so no pair has this key
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

/// Up to here scanning for the lowest rank beats a heap. Nearly all pieces of natural text are shorter.
constexpr std::size_t kShortPiece = 64;

std::uint64_t pair_of(int left, int right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::array<int, 256>& byte_ids, std::span<const Merge> merges) : byte_ids_(byte_ids) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2, 2 * merges.size()));
  table_.assign(size, Entry{kNoPair, kNoRank, -1});
  shift_ = 64 - std::countr_zero(size);
  std::uint32_t rank = 0;
  for (const Merge& merge : merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    slot_of(pair) = {pair, rank++, merge.result};
  }
}

std::size_t Bpe::home_of(std::uint64_t pair) const {
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15U) >> shift_);  // Fibonacci hashing
}

Bpe::Entry& Bpe::slot_of(std::uint64_t pair) {
  std::size_t at = home_of(pair);
  while (table_[at].pair != kNoPair && table_[at].pair != pair) at = (at + 1) & (table_.size() - 1);
  return table_[at];
}

const Bpe::Entry* Bpe::find(int left, int right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::size_t at = home_of(pair); table_[at].pair != kNoPair; at = (at + 1) & (table_.size() - 1)) {
    if (table_[at].pair == pair) return &table_[at];
  }
  return nullptr;
}

void Bpe::encode(std::string_view piece, std::vector<int>& ids) const {
  if (piece.size() <= kShortPiece) {
    encode_short(piece, ids);
  } else {
    encode_long(piece, ids);
  }
}

void Bpe::encode_short(std::string_view piece, std::vector<int>& ids) const {
  std::array<int, kShortPiece> symbols;
  std::array<const Entry*, kShortPiece> merges;  // of symbols i and i + 1
  std::size_t count = piece.size();
  for (std::size_t i = 0; i < count; ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = find(symbols[i], symbols[i + 1]);

  while (count > 1) {
    std::size_t best = count;
    std::uint32_t best_rank = kNoRank;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      if (merges[i] != nullptr && merges[i]->rank < best_rank) {
        best = i;
        best_rank = merges[i]->rank;
      }
    }
    if (best == count) break;
    symbols[best] = merges[best]->result;
    std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    if (best + 2 < count) std::copy(merges.begin() + best + 2, merges.begin() + count - 1, merges.begin() + best + 1);
    --count;
    if (best > 0) merges[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) merges[best] = find(symbols[best], symbols[best + 1]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + count);
}

void Bpe::encode_long(std::string_view piece, std::vector<int>& ids) const {
  assert(piece.size() < std::numeric_limits<std::uint32_t>::max());
  constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();
  constexpr int kGone = -1;
  struct Symbol {
    int id;                        // kGone once merged into its left neighbour
    std::uint32_t previous, next;  // living neighbours, kEnd at the ends
  };
  struct Candidate {
    std::uint32_t rank, left;  // `left`: index of the left symbol
    std::uint64_t pair;        // what stood there; something else by now means that the candidate is stale
    int result;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };

  const auto size = static_cast<std::uint32_t>(piece.size());
  std::vector<Symbol> symbols(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    symbols[i] = {byte_ids_[static_cast<unsigned char>(piece[i])], i == 0 ? kEnd : i - 1, i + 1 == size ? kEnd : i + 1};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](std::uint32_t left) {
    if (left == kEnd || symbols[left].next == kEnd) return;
    const Entry* entry = find(symbols[left].id, symbols[symbols[left].next].id);
    if (entry != nullptr) candidates.push({entry->rank, left, entry->pair, entry->result});
  };
  for (std::uint32_t i = 0; i + 1 < size; ++i) consider(i);

  while (!candidates.empty()) {
    const Candidate candidate = candidates.top();
    candidates.pop();
    Symbol& left = symbols[candidate.left];
    if (left.id == kGone || left.next == kEnd) continue;
    Symbol& right = symbols[left.next];
    if (pair_of(left.id, right.id) != candidate.pair) continue;
    left.id = candidate.result;
    left.next = right.next;
    right.id = kGone;
    if (left.next != kEnd) symbols[left.next].previous = candidate.left;
    consider(left.previous);
    consider(candidate.left);
  }
  for (std::uint32_t i = 0; i != kEnd; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace sluice::model
