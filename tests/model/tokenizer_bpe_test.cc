// Merging, against a naive model over random merge tables.
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>
#include <string>

#include "model/tokenizer/bpe.h"

namespace sluice::model {
namespace {

std::array<int, 256> identity() {
  std::array<int, 256> ids{};
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// The definition: search the whole piece for the most urgent merge, do it, start again.
std::vector<int> naive_encode(const std::vector<Merge>& merges, const std::string& piece) {
  std::map<std::pair<int, int>, std::pair<std::size_t, int>> ranks;  // pair -> rank, result
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    ranks[{merges[rank].left, merges[rank].right}] = {rank, merges[rank].result};
  }
  std::vector<int> ids;
  for (const char c : piece) ids.push_back(static_cast<unsigned char>(c));
  for (;;) {
    std::size_t best_rank = merges.size();
    std::size_t best = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = ranks.find({ids[i], ids[i + 1]});
      if (merge != ranks.end() && merge->second.first < best_rank) {
        best_rank = merge->second.first;
        best = i;
      }
    }
    if (best_rank == merges.size()) return ids;
    ids[best] = merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

/// Merges of random pairs over three letters: dense, so that nearly every merge competes with its neighbours.
std::vector<Merge> random_merges(std::mt19937& random, int count) {
  std::vector<int> tokens = {'a', 'b', 'c'};
  std::vector<Merge> merges;
  for (int i = 0; i < count; ++i) {
    const auto pick = [&] { return tokens[random() % tokens.size()]; };
    merges.push_back({pick(), pick(), 256 + i});
    tokens.push_back(256 + i);
  }
  std::shuffle(merges.begin(), merges.end(), random);
  return merges;
}

TEST(Bpe, EqualsTheNaiveDefinition) {
  std::mt19937 random(4);
  for (int table = 0; table < 200; ++table) {
    const std::vector<Merge> merges = random_merges(random, 1 + static_cast<int>(random() % 60));
    const Bpe bpe(identity(), merges);
    // Both sides of the length at which the algorithm changes.
    for (const std::size_t length : {0, 1, 2, 3, 7, 30, 63, 64, 65, 66, 200}) {
      std::string piece(length, '\0');
      for (char& c : piece) c = static_cast<char>('a' + random() % 3);
      std::vector<int> ids = {7};
      bpe.encode(piece, ids);
      std::vector<int> expected = naive_encode(merges, piece);
      expected.insert(expected.begin(), 7);  // encode() appends
      ASSERT_EQ(ids, expected) << piece << ", table " << table;
    }
  }
}

TEST(Bpe, MergesTheLeftmostOfEqualsFirst) {
  const Bpe bpe(identity(), std::vector<Merge>{{'a', 'a', 256}});
  for (const std::size_t length : {3, 5, 65, 101}) {
    std::vector<int> ids;
    bpe.encode(std::string(length, 'a'), ids);
    EXPECT_EQ(ids.front(), 256) << length;
    EXPECT_EQ(ids.back(), 'a') << length;
    EXPECT_EQ(ids.size(), length / 2 + 1);
  }
}

TEST(Bpe, WorksWithoutMerges) {
  std::vector<int> ids;
  Bpe(identity(), {}).encode("abc", ids);
  EXPECT_EQ(ids, (std::vector<int>{'a', 'b', 'c'}));
}

TEST(Bpe, TakesTheLaterOfTwoMergesOfOnePair) {
  std::vector<int> ids;
  Bpe(identity(), std::vector<Merge>{{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 258}}).encode("abc", ids);
  EXPECT_EQ(ids, (std::vector<int>{'a', 257}));
}

}  // namespace
}  // namespace sluice::model
