// Which positions sparse attention chooses, beside a naive scorer and a full sort.
#include "kernels/sparse_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/attention_support.h"

namespace sluice::kernels {
namespace {

/// Keys of one sequence as blocks, and what the cache gives back for them.
class Keys {
 public:
  Keys(const Context& context, DType type, int head_dim, const std::vector<float>& keys)
      : shape_{1, head_dim, type, head_dim}, count_(static_cast<int>(keys.size()) / head_dim) {
    cached_.resize(keys.size());
    storage_.resize(static_cast<std::size_t>((count_ + kKvBlock - 1) / kKvBlock));
    for (auto& block : storage_) block.assign(shape_.block_bytes(), std::byte{0xFF});  // NaN where nothing is stored
    for (const auto& block : storage_) blocks_.push_back(block.data());
    for (int j = 0; j < count_; ++j) {
      const std::size_t at = static_cast<std::size_t>(j) * static_cast<std::size_t>(head_dim);
      store_kv(context, shape_, storage_[static_cast<std::size_t>(j / kKvBlock)].data(), j, &keys[at], nullptr);
      as_cached(type, &keys[at], head_dim, &cached_[at]);
    }
  }

  const KvShape& shape() const { return shape_; }
  const std::byte* const* blocks() const { return blocks_.data(); }
  int count() const { return count_; }

  /// score_j of positions 0..position in double precision.
  std::vector<double> scores(const float* q, const float* weights, int heads, std::int64_t position) const {
    std::vector<double> result;
    for (std::int64_t j = 0; j <= position; ++j) {
      double score = 0;
      for (int h = 0; h < heads; ++h) {
        double dot = 0;
        for (int i = 0; i < shape_.head_dim; ++i) {
          dot += static_cast<double>(q[h * shape_.head_dim + i]) *
                 static_cast<double>(cached_[static_cast<std::size_t>(j * shape_.head_dim + i)]);
        }
        score += static_cast<double>(weights[h]) * std::max(0.0, dot);
      }
      result.push_back(score);
    }
    return result;
  }

 private:
  KvShape shape_;
  int count_;
  std::vector<float> cached_;
  std::vector<std::vector<std::byte>> storage_;
  std::vector<const std::byte*> blocks_;
};

/// The best by a full sort: larger scores first, later positions first among equals.
std::vector<int> naive_choice(const std::vector<double>& scores, int top_k) {
  std::vector<int> order(scores.size());
  std::iota(order.rbegin(), order.rend(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(top_k)));
  std::sort(order.begin(), order.end());
  return order;
}

class SparseIndex : public testing::TestWithParam<const Isa*> {
 protected:
  /// Positions chosen for each row.
  std::vector<std::vector<int>> choose(const Keys& keys, int heads, int top_k, const std::vector<float>& q,
                                       const std::vector<float>& weights, const std::vector<int>& positions,
                                       int threads = 1) {
    ThreadTeam team(threads);
    const std::size_t words = static_cast<std::size_t>(keys.count()) / 64 + 1;
    std::vector<std::uint64_t> selected(positions.size() * words, ~std::uint64_t{0});
    std::vector<IndexRow> rows;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      rows.push_back({&q[i * static_cast<std::size_t>(heads * keys.shape().head_dim)],
                      &weights[i * static_cast<std::size_t>(heads)], keys.blocks(), positions[i],
                      &selected[i * words]});
    }
    select_positions({*GetParam(), team}, keys.shape(), heads, top_k, rows, workspace_);
    std::vector<std::vector<int>> result(positions.size());
    for (std::size_t i = 0; i < positions.size(); ++i) {
      for (int bit = 0; bit < (positions[i] / 64 + 1) * 64; ++bit) {
        if ((selected[i * words + static_cast<std::size_t>(bit / 64)] >> (bit % 64) & 1U) != 0)
          result[i].push_back(bit);
      }
    }
    return result;
  }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
  Workspace workspace_;
};

INSTANTIATE_TEST_SUITE_P(Isas, SparseIndex, testing::ValuesIn(supported_isas()), isa_name);

/// Scores that are close are left to rounding; the naive choice has to agree on all others.
TEST_P(SparseIndex, ChoosesLikeAFullSortForEveryCacheTypeAndShape) {
  const std::vector<int> positions{5, 6, 7, 62, 63, 64, 127, 128, 190, 191, 192, 299};
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    for (const auto& [heads, head_dim] : {std::pair{1, 8}, {3, 24}, {4, 32}, {6, 30}, {9, 128}}) {
      Random random(static_cast<unsigned>(heads));
      const Keys keys(context_, type, head_dim, random.normal(static_cast<std::size_t>(300 * head_dim)));
      const std::size_t q_width = static_cast<std::size_t>(heads * head_dim);
      const std::vector<float> q = random.normal(positions.size() * q_width);
      const std::vector<float> weights = random.normal(positions.size() * static_cast<std::size_t>(heads));
      constexpr int kTop = 7;
      const auto chosen = choose(keys, heads, kTop, q, weights, positions);
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const std::vector<double> scores =
            keys.scores(&q[i * q_width], &weights[i * static_cast<std::size_t>(heads)], heads, positions[i]);
        ASSERT_EQ(chosen[i].size(), static_cast<std::size_t>(std::min(kTop, positions[i] + 1)));
        double worst_kept = std::numeric_limits<double>::infinity();
        for (const int j : chosen[i]) worst_kept = std::min(worst_kept, scores[static_cast<std::size_t>(j)]);
        for (const int j : naive_choice(scores, kTop)) {
          EXPECT_LE(scores[static_cast<std::size_t>(j)] - worst_kept,
                    std::binary_search(chosen[i].begin(), chosen[i].end(), j) ? 1e9 : 1e-4 * head_dim)
              << heads << " heads, position " << positions[i];
        }
      }
    }
  }
}

/// Small whole numbers make exact scores, and many of them equal.
TEST_P(SparseIndex, KeepsTheLaterPositionsOnTies) {
  constexpr int kHeads = 2;
  constexpr int kHeadDim = 8;
  Random random(4);
  std::vector<float> values;
  for (int i = 0; i < 200 * kHeadDim; ++i) values.push_back(static_cast<float>(random.integer(-1, 1)));
  const Keys keys(context_, DType::f16, kHeadDim, values);
  const std::vector<int> positions{20, 63, 64, 130, 199};
  std::vector<float> q, weights;
  for (std::size_t i = 0; i < positions.size() * kHeads * kHeadDim; ++i) {
    q.push_back(static_cast<float>(random.integer(-1, 1)));
  }
  // Negative weights make the zeros of relu the best scores.
  for (std::size_t i = 0; i < positions.size() * kHeads; ++i) weights.push_back(i % 3 == 0 ? 1.0F : -1.0F);
  for (const int top_k : {1, 5, 19}) {
    const auto chosen = choose(keys, kHeads, top_k, q, weights, positions);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const auto scores = keys.scores(&q[i * kHeads * kHeadDim], &weights[i * kHeads], kHeads, positions[i]);
      EXPECT_EQ(chosen[i], naive_choice(scores, top_k)) << "position " << positions[i] << ", top " << top_k;
    }
  }
}

TEST_P(SparseIndex, ARowThatSeesNoMoreThanTheCutKeepsAll) {
  Random random(5);
  const Keys keys(context_, DType::f16, 16, random.normal(std::size_t{150} * 16));
  const std::vector<int> positions{0, 62, 63, 64, 127, 128, 149};
  const auto chosen =
      choose(keys, 2, 150, random.normal(positions.size() * 32), random.normal(positions.size() * 2), positions);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    std::vector<int> all(static_cast<std::size_t>(positions[i]) + 1);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(chosen[i], all);
  }
}

TEST_P(SparseIndex, NotANumberComesLast) {
  constexpr int kHeadDim = 8;
  Random random(6);
  std::vector<float> values = random.normal(std::size_t{100} * kHeadDim);
  // Both heads overflow there, with weights of both signs: infinity less infinity.
  for (const int broken : {3, 64, 65, 99}) values[static_cast<std::size_t>(broken * kHeadDim)] = 3e38F;
  const Keys keys(context_, DType::f32, kHeadDim, values);
  std::vector<float> q = random.normal(std::size_t{2} * kHeadDim);
  q[0] = q[kHeadDim] = 4;
  const auto without = choose(keys, 2, 96, q, {1.0F, -1.0F}, {99});
  for (const int broken : {3, 64, 65, 99}) {
    EXPECT_FALSE(std::binary_search(without[0].begin(), without[0].end(), broken)) << broken;
  }
  const auto with_one = choose(keys, 2, 97, q, {1.0F, -1.0F}, {99});
  EXPECT_TRUE(std::binary_search(with_one[0].begin(), with_one[0].end(), 99));  // the latest of them
}

/// The positive part of a product that is NaN is NaN, not 0: else a broken key would be an ordinary one.
TEST_P(SparseIndex, ABrokenKeyComesLast) {
  constexpr int kHeadDim = 8;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    Random random(9);
    std::vector<float> values = random.normal(std::size_t{100} * kHeadDim);
    for (const int broken : {3, 64, 99}) {
      values[static_cast<std::size_t>(broken * kHeadDim)] = std::numeric_limits<float>::quiet_NaN();
    }
    const Keys keys(context_, type, kHeadDim, values);
    // With negative weights no score is above 0.
    const auto chosen = choose(keys, 2, 97, random.normal(std::size_t{2} * kHeadDim), {-1.0F, -1.0F}, {99});
    std::vector<int> whole;
    for (int j = 0; j < 99; ++j) {
      if (j != 3 && j != 64) whole.push_back(j);
    }
    EXPECT_EQ(chosen[0], whole) << name_of(type);
  }
}

/// The same rows alone, together, with several threads, on every instruction set: one choice.
TEST_P(SparseIndex, TheChoiceDoesNotDependOnWhatItIsComputedWith) {
  constexpr int kHeads = 5;
  constexpr int kHeadDim = 64;
  constexpr int kTop = 40;
  Random random(7);
  const Keys keys(context_, DType::bf16, kHeadDim, random.normal(std::size_t{700} * kHeadDim));
  std::vector<int> positions;
  for (int position = 3; position < 700; position += 23) positions.push_back(position);
  const std::vector<float> q = random.normal(positions.size() * kHeads * kHeadDim);
  const std::vector<float> weights = random.normal(positions.size() * kHeads);
  const auto expected = choose(keys, kHeads, kTop, q, weights, positions);
  for (const int threads : {2, 3}) EXPECT_EQ(choose(keys, kHeads, kTop, q, weights, positions, threads), expected);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto q_row = q.begin() + static_cast<std::ptrdiff_t>(i * kHeads * kHeadDim);
    const auto weight_row = weights.begin() + static_cast<std::ptrdiff_t>(i * kHeads);
    EXPECT_EQ(choose(keys, kHeads, kTop, {q_row, q_row + kHeads * kHeadDim}, {weight_row, weight_row + kHeads},
                     {positions[i]})[0],
              expected[i]);
  }
}

TEST(SparseIndexBits, EveryInstructionSetGivesTheSameScores) {
  ThreadTeam team(1);
  constexpr int kHeadDim = 40;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    for (const int count : {1, 7, 8, 9, 63, 64}) {
      std::vector<std::vector<std::uint32_t>> all;
      for (const Isa* isa : supported_isas()) {
        Random random(8);
        const Context context{*isa, team};
        const Keys keys(context, type, kHeadDim, random.normal(static_cast<std::size_t>(count * kHeadDim)));
        const std::vector<float> q = random.normal(7 * kHeadDim);
        const std::vector<float> weights = random.normal(7);
        std::vector<float> scores(kKvBlock);
        isa->vector->index_block({.q = q.data(),
                                  .weights = weights.data(),
                                  .heads = 7,
                                  .head_dim = kHeadDim,
                                  .count = count,
                                  .keys = keys.blocks()[0],
                                  .row_bytes = static_cast<std::int64_t>(keys.shape().row_bytes()),
                                  .type = type,
                                  .scores = scores.data()});
        scores.resize(static_cast<std::size_t>(count));
        all.push_back(bits_of(scores));
        const auto exact = keys.scores(q.data(), weights.data(), 7, count - 1);
        for (std::size_t j = 0; j < exact.size(); ++j) EXPECT_NEAR(scores[j], exact[j], 1e-3);
      }
      for (const auto& bits : all) EXPECT_EQ(bits, all[0]) << count;
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
