// Byte-pair encoding: the bytes of a piece, merged pair by pair in the order of the merge ranks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::model {

/// Two neighbouring tokens that become one.
struct Merge {
  int left, right, result;  // token ids
};

/// Immutable after construction; encode() may be called from several threads.
class Bpe {
 public:
  /// `byte_ids`: the token of every byte, -1 for bytes that will not occur. `merges`: in rank order, most urgent first.
  /// Of two merges of one pair the later counts, as in the reference.
  Bpe(const std::array<int, 256>& byte_ids, std::span<const Merge> merges);

  /// Appends the tokens of `piece` to `ids`. Of all possible merges the one of lowest rank is done first, the leftmost
  /// of equals. O(n log n) for n bytes.
  void encode(std::string_view piece, std::vector<int>& ids) const;

 private:
  struct Entry {
    std::uint64_t pair;  // left id in the upper half, right id in the lower
    std::uint32_t rank;
    int result;
  };

  const Entry* find(int left, int right) const;
  Entry& slot_of(std::uint64_t pair);
  std::size_t home_of(std::uint64_t pair) const;
  void encode_short(std::string_view piece, std::vector<int>& ids) const;
  void encode_long(std::string_view piece, std::vector<int>& ids) const;

  std::array<int, 256> byte_ids_;
  // Open addressing with linear probing, at most half full: one cache miss per lookup, where the lookups are most of
  // the time of encode().
  std::vector<Entry> table_;
  int shift_ = 0;  // 64 - log2(table size)
};

}  // namespace sluice::model
