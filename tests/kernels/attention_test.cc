#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/attention_support.h"

namespace sluice::kernels {
namespace {

INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest, testing::ValuesIn(supported_isas()), isa_name);

struct Geometry {
  int heads, kv_heads, head_dim, latent_dim;
};
// Ratios of query to kv heads from 1 to 20 (more than a tile holds), widths that do and do not fill vectors, and
// caches of latents.
constexpr Geometry kGeometries[] = {{2, 2, 32, 0}, {8, 2, 64, 0}, {6, 1, 128, 0}, {4, 4, 40, 0},  {3, 1, 20, 0},
                                    {20, 1, 8, 0}, {5, 1, 3, 0},  {34, 2, 16, 0}, {4, 1, 80, 64}, {18, 1, 44, 36}};
constexpr DType kTypes[] = {DType::f16, DType::bf16, DType::f32, DType::i8};

TEST_P(AttentionTest, MatchesDoublePrecisionAtBlockBoundaries) {
  for (const auto [heads, kv_heads, head_dim, latent_dim] : kGeometries) {
    for (const DType type : kTypes) {
      const KvShape shape{kv_heads, head_dim, type, latent_dim};
      Sequence sequence(context_, shape, 140, 1);
      const auto batch = rows(sequence, shape, heads, {0, 1, 7, 8, 62, 63, 64, 65, 127, 128, 139});
      const AttentionHeads all{heads, 1 / std::sqrt(static_cast<float>(head_dim))};
      attention(context_, shape, all, batch, workspace_);
      EXPECT_LT(worst_error(sequence, shape, all, batch, everything), 5e-6)
          << heads << " heads, " << kv_heads << " kv heads, head_dim " << head_dim << ", " << name_of(type);
    }
  }
}

TEST_P(AttentionTest, ARowHasTheSameBitsAloneAndInABatchAndOnAnyNumberOfThreads) {
  for (const auto [heads, kv_heads, head_dim, latent_dim] : kGeometries) {
    const KvShape shape{kv_heads, head_dim, DType::f16, latent_dim};
    const AttentionHeads all{heads, 0.2F};
    const Sequence first(context_, shape, 100, 2), second(context_, shape, 70, 3);
    std::vector<int> positions(100);
    std::iota(positions.begin(), positions.end(), 0);
    auto batch = rows(first, shape, heads, positions);
    for (std::size_t i = 30; i < 70; ++i) batch[i].blocks = second.blocks();  // two sequences in one step

    for (const AttentionRow& row : batch) attention(context_, shape, all, {&row, 1}, workspace_);
    const auto alone = bits_of(out_);
    for (const int threads : {1, 2, 3}) {
      EXPECT_EQ(compute(*GetParam(), threads, shape, all, batch), alone)
          << heads << " heads, head_dim " << head_dim << ", " << threads << " threads";
    }
  }
}

TEST_P(AttentionTest, SharingOutTheBlocksOfAFewRowsChangesNoBit) {
  // Three tiles of which one row sees 15 blocks, another one, and the third is of another sequence.
  const KvShape shape{1, 24, DType::f16};
  const AttentionHeads all{3, 0.3F};
  const Sequence first(context_, shape, 950, 4), second(context_, shape, 130, 5);
  auto batch = rows(first, shape, 3, {949, 63, 129});
  batch[2].blocks = second.blocks();
  const auto whole = compute(*GetParam(), 1, shape, all, batch);
  for (const int threads : {2, 3}) EXPECT_EQ(compute(*GetParam(), threads, shape, all, batch), whole);
}

TEST_P(AttentionTest, ALongContextTakesSeveralDispatchesAndTheSameBits) {
  const KvShape shape{1, 256, DType::bf16};
  const AttentionHeads all{16, 0.05F};
  const Sequence sequence(context_, shape, 4200, 10);
  const auto batch = rows(sequence, shape, 16, {4199});
  const auto whole = compute(*GetParam(), 1, shape, all, batch);
  ThreadTeam team(2);
  attention({*GetParam(), team}, shape, all, batch, workspace_);
  EXPECT_EQ(bits_of(out_), whole);
  EXPECT_EQ(team.dispatches(), 2U);
}

TEST_P(AttentionTest, HasTheBitsOfTheScalarReference) {
  const Isa& scalar = all_isas().front();
  const Context reference{scalar, alone_};
  for (const auto [heads, kv_heads, head_dim, latent_dim] : kGeometries) {
    for (const DType type : kTypes) {
      const KvShape shape{kv_heads, head_dim, type, latent_dim};
      const AttentionHeads all{heads, 0.3F};
      const Sequence sequence(context_, shape, 130, 4), expected(reference, shape, 130, 4);
      EXPECT_EQ(sequence.storage(), expected.storage());
      const auto batch = rows(sequence, shape, heads, {129, 0, 64, 77, 63});
      EXPECT_EQ(compute(*GetParam(), 1, shape, all, batch), compute(scalar, 1, shape, all, batch))
          << heads << " heads, head_dim " << head_dim << ", " << name_of(type);
    }
  }
}

TEST_P(AttentionTest, OnePositionReturnsItsValue) {
  const KvShape shape{2, 24, DType::f32};
  Sequence sequence(context_, shape, 1, 5);
  const auto batch = rows(sequence, shape, 4, {0});
  attention(context_, shape, {4, 1.0F}, batch, workspace_);
  for (int head = 0; head < 4; ++head) {
    for (int i = 0; i < 24; ++i)
      EXPECT_EQ(out_[static_cast<std::size_t>(head * 24 + i)], sequence.value(0, head / 2, i));
  }
}

TEST_P(AttentionTest, ScoresFarApartInLaterBlocksTakeOver) {
  const KvShape shape{1, 8, DType::f32};
  Sequence sequence(context_, shape, 130, 6);
  const auto batch = rows(sequence, shape, 1, {129, 100});
  for (int i = 0; i < 8; ++i) sequence.key(128, 0, i) = 1000 * q_[static_cast<std::size_t>(i)];
  sequence.store(context_, 128);
  attention(context_, shape, {1, 1.0F}, {batch.data(), 1}, workspace_);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(out_[static_cast<std::size_t>(i)], sequence.value(128, 0, i));
  EXPECT_TRUE(std::isnan(out_[8])) << "only the first row was asked for";
}

TEST_P(AttentionTest, NanInAKeyReachesExactlyTheRowsThatSeeIt) {
  for (const DType type : kTypes) {
    const KvShape shape{1, 16, type};
    Sequence sequence(context_, shape, 80, 7);
    sequence.key(70, 0, 3) = std::numeric_limits<float>::quiet_NaN();
    sequence.store(context_, 70);
    const auto batch = rows(sequence, shape, 1, {69, 70, 79});
    attention(context_, shape, {1, 1.0F}, batch, workspace_);
    for (int i = 0; i < 16; ++i) {
      EXPECT_FALSE(std::isnan(batch[0].out[i])) << name_of(type);
      EXPECT_TRUE(std::isnan(batch[1].out[i])) << name_of(type);
      EXPECT_TRUE(std::isnan(batch[2].out[i])) << name_of(type);
    }
  }
}

TEST_P(AttentionTest, TheWidestHeadFitsTheScratch) {
  const KvShape shape{1, kMaxHeadDim, DType::f16};
  Sequence sequence(context_, shape, 66, 8);
  const auto batch = rows(sequence, shape, 16, {65});
  attention(context_, shape, {16, 0.01F}, batch, workspace_);
  EXPECT_LT(worst_error(sequence, shape, {16, 0.01F}, batch, everything), 5e-6);
}

TEST_P(AttentionTest, NoRowsIsNothingToDo) {
  attention(context_, {2, 64, DType::f16}, {4, 1.0F}, {}, workspace_);
  EXPECT_EQ(alone_.dispatches(), 0U);
}

TEST_P(AttentionTest, IsOneDispatch) {
  ThreadTeam team(2);
  for (const int positions : {40, 400}) {  // whole tiles, and blocks shared out
    const KvShape shape{2, 16, DType::f16};
    const Sequence sequence(context_, shape, positions, 9);
    const auto batch = rows(sequence, shape, 4, {positions - 1, 20, 30});
    const auto before = team.dispatches();
    attention({*GetParam(), team}, shape, {4, 1.0F}, batch, workspace_);
    EXPECT_EQ(team.dispatches(), before + 1);
  }
}

}  // namespace
}  // namespace sluice::kernels
