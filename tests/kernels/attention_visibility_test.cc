// Which positions a row sees: sliding windows, selected positions, sinks.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention_support.h"

namespace sluice::kernels {
namespace {

using AttentionVisibilityTest = AttentionTest;
INSTANTIATE_TEST_SUITE_P(Isas, AttentionVisibilityTest, testing::ValuesIn(supported_isas()), isa_name);

TEST_P(AttentionVisibilityTest, AWindowHidesAllButTheLastPositions) {
  const KvShape shape{2, 24, DType::f16};
  Sequence sequence(context_, shape, 300, 1);
  const auto batch = rows(sequence, shape, 4, {0, 3, 63, 64, 70, 127, 128, 191, 192, 299});
  for (const int window : {1, 5, 64, 65, 128, 1000}) {
    const AttentionHeads heads{4, 0.2F, window};
    attention(context_, shape, heads, batch, workspace_);
    const auto sees = [=](const AttentionRow& row, int j) { return j > row.position - window; };
    EXPECT_LT(worst_error(sequence, shape, heads, batch, sees), 5e-6) << window;
  }
}

TEST_P(AttentionVisibilityTest, BlocksBeforeTheWindowAreNotTouched) {
  const KvShape shape{1, 16, DType::f16};
  const AttentionHeads heads{3, 0.2F, 64};
  Sequence sequence(context_, shape, 400, 2);
  auto batch = rows(sequence, shape, 3, {250, 399});
  const auto expected = compute(*GetParam(), 1, shape, heads, batch);
  for (const int block : {0, 1}) sequence.drop_block(block);
  // Of the block in which the window begins, what lies before it must not matter either.
  for (int i = 0; i < 16; ++i) sequence.key(186, 0, i) = sequence.value(186, 0, i) = std::nanf("");
  sequence.store(context_, 186);
  for (const int threads : {1, 2, 3}) EXPECT_EQ(compute(*GetParam(), threads, shape, heads, batch), expected);
}

TEST_P(AttentionVisibilityTest, OnlySelectedPositionsTakePart) {
  const KvShape shape{1, 40, DType::f16, 32};
  const AttentionHeads heads{5, 0.2F, 0, nullptr};
  Sequence sequence(context_, shape, 330, 3);
  auto batch = rows(sequence, shape, 5, {200, 329});
  // The first row sees every third position; the second some of two blocks out of six.
  const std::vector<std::uint64_t> thirds{0x9249249249249249, 0x4924924924924924, 0x2492492492492492,
                                          0x9249249249249249};
  const std::vector<std::uint64_t> few{0, 0x8000000000000001, 0, 0, 0xFF00, 0};
  batch[0].selected = thirds.data();
  batch[1].selected = few.data();
  const auto sees = [](const AttentionRow& row, int j) { return (row.selected[j / 64] >> (j % 64) & 1U) != 0; };
  for (const int threads : {1, 3}) {
    compute(*GetParam(), threads, shape, heads, batch);
    EXPECT_LT(worst_error(sequence, shape, heads, batch, sees), 5e-6);
  }
  // Blocks without a selected position are not touched.
  const auto expected = compute(*GetParam(), 1, shape, heads, {&batch[1], 1});
  for (const int block : {0, 2, 3, 5}) sequence.drop_block(block);
  for (const int threads : {1, 3}) EXPECT_EQ(compute(*GetParam(), threads, shape, heads, {&batch[1], 1}), expected);
}

TEST_P(AttentionVisibilityTest, SelectingEverythingChangesNoBit) {
  const KvShape shape{1, 16, DType::bf16};
  const AttentionHeads heads{2, 0.5F};
  const Sequence sequence(context_, shape, 100, 4);
  auto batch = rows(sequence, shape, 2, {99});
  const auto expected = compute(*GetParam(), 1, shape, heads, batch);
  const std::vector<std::uint64_t> all(2, ~std::uint64_t{0});
  batch[0].selected = all.data();
  EXPECT_EQ(compute(*GetParam(), 1, shape, heads, batch), expected);
}

TEST_P(AttentionVisibilityTest, ASinkTakesItsShareOfEveryHead) {
  const KvShape shape{2, 24, DType::f16};
  Sequence sequence(context_, shape, 200, 5);
  const auto batch = rows(sequence, shape, 4, {0, 63, 64, 199});
  const std::vector<float> sinks{0.5F, -20.0F, 3.0F, 8.0F};
  for (const int window : {0, 70}) {
    const AttentionHeads heads{4, 0.2F, window, sinks.data()};
    const auto sees = [=](const AttentionRow& row, int j) { return window == 0 || j > row.position - window; };
    for (const int threads : {1, 3}) {
      compute(*GetParam(), threads, shape, heads, batch);
      EXPECT_LT(worst_error(sequence, shape, heads, batch, sees), 5e-6);
    }
  }
}

TEST_P(AttentionVisibilityTest, AnOverwhelmingSinkLeavesNothingAndAnInfinitelySmallOneEverything) {
  const KvShape shape{1, 8, DType::f32};
  const Sequence sequence(context_, shape, 10, 6);
  const auto batch = rows(sequence, shape, 2, {9});
  const auto without = compute(*GetParam(), 1, shape, {2, 0.1F}, batch);
  const std::vector<float> sinks{1e30F, -std::numeric_limits<float>::infinity()};
  const auto with = compute(*GetParam(), 1, shape, {2, 0.1F, 0, sinks.data()}, batch);
  EXPECT_TRUE(std::all_of(out_.begin(), out_.begin() + 8, [](float x) { return x == 0; }));
  EXPECT_TRUE(std::equal(with.begin() + 8, with.end(), without.begin() + 8));
}

TEST_P(AttentionVisibilityTest, WindowsAndSinksHaveTheBitsOfTheScalarReference) {
  const KvShape shape{1, 20, DType::i8};
  const Sequence sequence(context_, shape, 150, 7);
  const auto batch = rows(sequence, shape, 3, {149, 60, 64});
  const std::vector<float> sinks{0.1F, 1.0F, -1.0F};
  const AttentionHeads heads{3, 0.4F, 61, sinks.data()};
  EXPECT_EQ(compute(*GetParam(), 2, shape, heads, batch), compute(all_isas().front(), 1, shape, heads, batch));
}

}  // namespace
}  // namespace sluice::kernels
