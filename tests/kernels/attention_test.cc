#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/float16.h"
#include "kernels/vector_kernels.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

float rounded_to(DType type, float x) {
  return type == DType::f16 ? f16_to_f32(f32_to_f16(x)) : type == DType::bf16 ? bf16_to_f32(f32_to_bf16(x)) : x;
}

/// The keys and values of one sequence, in f32 and as the cache blocks that attention() reads.
class Sequence {
 public:
  Sequence(const Context& context, const KvShape& shape, int positions, unsigned seed)
      : shape_(shape), width_(static_cast<std::size_t>(shape.kv_heads * shape.head_dim)) {
    Random random(seed);
    keys_ = random.normal(static_cast<std::size_t>(positions) * width_);
    values_ = random.normal(static_cast<std::size_t>(positions) * width_);
    storage_.resize(static_cast<std::size_t>((positions + kKvBlock - 1) / kKvBlock));
    // What lies beyond the last stored position must not matter: 0xFF makes it NaN in every type.
    for (auto& block : storage_) block.assign(shape.block_bytes(), std::byte{0xFF});
    for (const auto& block : storage_) blocks_.push_back(block.data());
    for (int position = 0; position < positions; ++position) store(context, position);
  }

  void store(const Context& context, int position) {
    const std::size_t at = static_cast<std::size_t>(position) * width_;
    store_kv(context, shape_, storage_[static_cast<std::size_t>(position / kKvBlock)].data(), position, &keys_[at],
             &values_[at]);
  }

  float& key(int position, int kv_head, int i) { return keys_[index(position, kv_head, i)]; }
  float& value(int position, int kv_head, int i) { return values_[index(position, kv_head, i)]; }
  const std::byte* const* blocks() const { return blocks_.data(); }
  const std::vector<std::vector<std::byte>>& storage() const { return storage_; }

  /// Attention of one head in double precision, over the values as the cache rounds them.
  std::vector<double> naive(const float* q, int kv_head, int position, double scale) {
    std::vector<double> scores;
    for (int j = 0; j <= position; ++j) {
      double dot = 0;
      for (int i = 0; i < shape_.head_dim; ++i)
        dot += static_cast<double>(q[i]) * rounded_to(shape_.type, key(j, kv_head, i));
      scores.push_back(scale * dot);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - largest);
    std::vector<double> out(static_cast<std::size_t>(shape_.head_dim));
    for (int j = 0; j <= position; ++j) {
      const double p = scores[static_cast<std::size_t>(j)] / total;
      for (int i = 0; i < shape_.head_dim; ++i) {
        out[static_cast<std::size_t>(i)] += p * rounded_to(shape_.type, value(j, kv_head, i));
      }
    }
    return out;
  }

 private:
  std::size_t index(int position, int kv_head, int i) const {
    return static_cast<std::size_t>(position) * width_ + static_cast<std::size_t>(kv_head * shape_.head_dim + i);
  }

  KvShape shape_;
  std::size_t width_;  // floats of one position
  std::vector<float> keys_, values_;
  std::vector<std::vector<std::byte>> storage_;
  std::vector<const std::byte*> blocks_;
};

class AttentionTest : public testing::TestWithParam<const Isa*> {
 protected:
  /// Rows of `heads` query heads at the positions given, all of one sequence.
  std::vector<AttentionRow> rows(const Sequence& sequence, const std::vector<int>& positions, int width) {
    q_ = Random(99).normal(positions.size() * static_cast<std::size_t>(width), 2.0F);
    out_.assign(q_.size(), std::numeric_limits<float>::quiet_NaN());
    std::vector<AttentionRow> result;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::size_t at = i * static_cast<std::size_t>(width);
      result.push_back({&q_[at], &out_[at], sequence.blocks(), positions[i]});
    }
    return result;
  }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
  std::vector<float> q_, out_;
};

INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest, testing::ValuesIn(supported_isas()), isa_name);

struct Geometry {
  int heads, kv_heads, head_dim;
};
// Ratios of query to kv heads from 1 to 20 (more than a tile holds), widths that do and do not fill vectors.
constexpr Geometry kGeometries[] = {{2, 2, 32}, {8, 2, 64}, {6, 1, 128}, {4, 4, 40},
                                    {3, 1, 20}, {20, 1, 8}, {5, 1, 3},   {34, 2, 16}};

TEST_P(AttentionTest, MatchesDoublePrecisionAtBlockBoundaries) {
  for (const auto [heads, kv_heads, head_dim] : kGeometries) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      const KvShape shape{kv_heads, head_dim, type};
      Sequence sequence(context_, shape, 140, 1);
      const std::vector<int> positions{0, 1, 7, 8, 62, 63, 64, 65, 127, 128, 139};
      const auto batch = rows(sequence, positions, heads * head_dim);
      const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
      attention(context_, shape, heads, scale, batch);
      double worst = 0;
      for (const AttentionRow& row : batch) {
        for (int head = 0; head < heads; ++head) {
          const auto exact = sequence.naive(row.q + head * head_dim, head / (heads / kv_heads),
                                            static_cast<int>(row.position), static_cast<double>(scale));
          for (int i = 0; i < head_dim; ++i) {
            worst = std::max(worst, std::abs(row.out[head * head_dim + i] - exact[static_cast<std::size_t>(i)]));
          }
        }
      }
      EXPECT_LT(worst, 5e-6) << heads << " heads, " << kv_heads << " kv heads, head_dim " << head_dim << ", "
                             << name_of(type);
    }
  }
}

TEST_P(AttentionTest, ARowHasTheSameBitsAloneAndInABatchAndOnAnyNumberOfThreads) {
  for (const auto [heads, kv_heads, head_dim] : kGeometries) {
    const KvShape shape{kv_heads, head_dim, DType::f16};
    const Sequence first(context_, shape, 100, 2), second(context_, shape, 70, 3);
    std::vector<int> positions(100);
    std::iota(positions.begin(), positions.end(), 0);
    auto batch = rows(first, positions, heads * head_dim);
    for (std::size_t i = 30; i < 70; ++i) batch[i].blocks = second.blocks();  // two sequences in one step

    for (const AttentionRow& row : batch) attention(context_, shape, heads, 0.2F, {&row, 1});
    const auto alone = bits_of(out_);
    for (const int threads : {1, 2, 3}) {
      ThreadTeam team(threads);
      std::fill(out_.begin(), out_.end(), 0.0F);
      attention({*GetParam(), team}, shape, heads, 0.2F, batch);
      EXPECT_EQ(bits_of(out_), alone) << heads << " heads, head_dim " << head_dim << ", " << threads << " threads";
    }
  }
}

TEST_P(AttentionTest, HasTheBitsOfTheScalarReference) {
  const Context reference{all_isas().front(), alone_};
  for (const auto [heads, kv_heads, head_dim] : kGeometries) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      const KvShape shape{kv_heads, head_dim, type};
      const Sequence sequence(context_, shape, 130, 4), expected(reference, shape, 130, 4);
      EXPECT_EQ(sequence.storage(), expected.storage());
      const auto batch = rows(sequence, {129, 0, 64, 77, 63}, heads * head_dim);
      attention(context_, shape, heads, 0.3F, batch);
      const auto actual = bits_of(out_);
      attention(reference, shape, heads, 0.3F, batch);
      EXPECT_EQ(actual, bits_of(out_)) << heads << " heads, head_dim " << head_dim << ", " << name_of(type);
    }
  }
}

TEST_P(AttentionTest, OnePositionReturnsItsValue) {
  const KvShape shape{2, 24, DType::f32};
  Sequence sequence(context_, shape, 1, 5);
  const auto batch = rows(sequence, {0}, 4 * 24);
  attention(context_, shape, 4, 1.0F, batch);
  for (int head = 0; head < 4; ++head) {
    for (int i = 0; i < 24; ++i)
      EXPECT_EQ(out_[static_cast<std::size_t>(head * 24 + i)], sequence.value(0, head / 2, i));
  }
}

TEST_P(AttentionTest, ScoresFarApartInLaterBlocksTakeOver) {
  const KvShape shape{1, 8, DType::f32};
  Sequence sequence(context_, shape, 130, 6);
  const auto batch = rows(sequence, {129, 100}, 8);
  for (int i = 0; i < 8; ++i) sequence.key(128, 0, i) = 1000 * q_[static_cast<std::size_t>(i)];
  sequence.store(context_, 128);
  attention(context_, shape, 1, 1.0F, {batch.data(), 1});
  for (int i = 0; i < 8; ++i) EXPECT_EQ(out_[static_cast<std::size_t>(i)], sequence.value(128, 0, i));
  EXPECT_TRUE(std::isnan(out_[8])) << "only the first row was asked for";
}

TEST_P(AttentionTest, NanInAKeyReachesExactlyTheRowsThatSeeIt) {
  const KvShape shape{1, 16, DType::f16};
  Sequence sequence(context_, shape, 80, 7);
  sequence.key(70, 0, 3) = std::numeric_limits<float>::quiet_NaN();
  sequence.store(context_, 70);
  const auto batch = rows(sequence, {69, 70, 79}, 16);
  attention(context_, shape, 1, 1.0F, batch);
  for (int i = 0; i < 16; ++i) {
    EXPECT_FALSE(std::isnan(batch[0].out[i]));
    EXPECT_TRUE(std::isnan(batch[1].out[i]));
    EXPECT_TRUE(std::isnan(batch[2].out[i]));
  }
}

TEST_P(AttentionTest, TheWidestHeadFitsTheScratch) {
  const KvShape shape{1, kMaxHeadDim, DType::f16};
  Sequence sequence(context_, shape, 66, 8);
  const auto batch = rows(sequence, {65}, 16 * kMaxHeadDim);
  attention(context_, shape, 16, 0.01F, batch);
  const auto exact = sequence.naive(q_.data() + 15 * kMaxHeadDim, 0, 65, 0.01);
  for (int i = 0; i < kMaxHeadDim; ++i) {
    EXPECT_NEAR(out_[static_cast<std::size_t>(15 * kMaxHeadDim + i)], exact[static_cast<std::size_t>(i)], 5e-6);
  }
}

TEST_P(AttentionTest, NoRowsIsNothingToDo) {
  attention(context_, {2, 64, DType::f16}, 4, 1.0F, {});
  EXPECT_EQ(alone_.dispatches(), 0U);
}

TEST_P(AttentionTest, IsOneDispatch) {
  ThreadTeam team(2);
  const KvShape shape{4, 16, DType::f16};
  const Sequence sequence(context_, shape, 40, 9);
  const auto batch = rows(sequence, {10, 20, 30}, 8 * 16);
  attention({*GetParam(), team}, shape, 8, 1.0F, batch);
  EXPECT_EQ(team.dispatches(), 1U);
}

}  // namespace
}  // namespace sluice::kernels
