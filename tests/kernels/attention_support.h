// What the tests of attention share: a sequence in f32 and as cache blocks, and a naive model in double precision.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/float16.h"
#include "kernels/attention.h"
#include "kernels/vector_kernels.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {

/// What a cache of `type` gives back for a row of n.
inline void as_cached(DType type, const float* row, int n, float* cached) {
  for (int first = 0; first < n; first += kQ8Group) {
    const int end = std::min(n, first + kQ8Group);
    float largest = 0;
    for (int i = first; i < end; ++i) largest = std::max(largest, std::abs(row[i]));
    for (int i = first; i < end; ++i) {
      cached[i] = type == DType::f16    ? f16_to_f32(f32_to_f16(row[i]))
                  : type == DType::bf16 ? bf16_to_f32(f32_to_bf16(row[i]))
                  : type == DType::i8   ? largest / 127 * std::nearbyint(row[i] * (127 / largest))
                                        : row[i];
    }
  }
}

/// The keys and values of one sequence, in f32 and as the cache blocks that attention() reads.
class Sequence {
 public:
  Sequence(const Context& context, const KvShape& shape, int positions, unsigned seed)
      : shape_(shape), width_(static_cast<std::size_t>(shape.kv_heads * shape.head_dim)) {
    Random random(seed);
    keys_ = random.normal(static_cast<std::size_t>(positions) * width_);
    values_ = random.normal(static_cast<std::size_t>(positions) * width_);
    cached_keys_ = keys_;
    cached_values_ = values_;
    storage_.resize(static_cast<std::size_t>((positions + kKvBlock - 1) / kKvBlock));
    // What lies beyond the last stored position must not matter: 0xFF makes it NaN in every type.
    for (auto& block : storage_) block.assign(shape.block_bytes(), std::byte{0xFF});
    for (const auto& block : storage_) blocks_.push_back(block.data());
    for (int position = 0; position < positions; ++position) store(context, position);
  }

  void store(const Context& context, int position) {
    const std::size_t at = static_cast<std::size_t>(position) * width_;
    store_kv(context, shape_, storage_[static_cast<std::size_t>(position / kKvBlock)].data(), position, &keys_[at],
             shape_.latent_dim > 0 ? nullptr : &values_[at]);
    for (int head = 0; head < shape_.kv_heads; ++head) {
      as_cached(shape_.type, &keys_[index(position, head, 0)], shape_.head_dim,
                &cached_keys_[index(position, head, 0)]);
      as_cached(shape_.type, &values_[index(position, head, 0)], shape_.head_dim,
                &cached_values_[index(position, head, 0)]);
    }
  }

  /// Takes a block away: whoever looks at it crashes.
  void drop_block(int block) { blocks_[static_cast<std::size_t>(block)] = nullptr; }

  float& key(int position, int kv_head, int i) { return keys_[index(position, kv_head, i)]; }
  float& value(int position, int kv_head, int i) {
    return (shape_.latent_dim > 0 ? keys_ : values_)[index(position, kv_head, i)];
  }
  const std::byte* const* blocks() const { return blocks_.data(); }
  const std::vector<std::vector<std::byte>>& storage() const { return storage_; }

  /// Attention of one head in double precision over the positions that `sees` names, with the keys and values as the
  /// cache rounds them and one more logit `sink`.
  std::vector<double> naive(const float* q, int kv_head, double scale, const std::function<bool(int)>& sees,
                            double sink = -std::numeric_limits<double>::infinity()) {
    const std::vector<float>& values = shape_.latent_dim > 0 ? cached_keys_ : cached_values_;
    std::vector<double> scores;
    const auto positions = static_cast<int>(keys_.size() / width_);
    double largest = sink;
    for (int j = 0; j < positions; ++j) {
      double dot = 0;
      const float* k = &cached_keys_[index(j, kv_head, 0)];
      for (int i = 0; i < shape_.head_dim; ++i) dot += static_cast<double>(q[i]) * static_cast<double>(k[i]);
      scores.push_back(sees(j) ? scale * dot : -std::numeric_limits<double>::infinity());
      largest = std::max(largest, scores.back());
    }
    double total = std::exp(sink - largest);
    for (double& score : scores) total += score = std::exp(score - largest);
    std::vector<double> out(static_cast<std::size_t>(shape_.value_dim()));
    for (int j = 0; j < positions; ++j) {
      const double p = scores[static_cast<std::size_t>(j)] / total;
      const float* v = &values[index(j, kv_head, 0)];
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += p * static_cast<double>(v[i]);
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
  std::vector<float> cached_keys_, cached_values_;  // as the cache gives them back
  std::vector<std::vector<std::byte>> storage_;
  std::vector<const std::byte*> blocks_;
};

/// Query rows with memory for what they give.
class AttentionTest : public testing::TestWithParam<const Isa*> {
 protected:
  /// Rows of `heads` query heads at the positions given, all of one sequence.
  std::vector<AttentionRow> rows(const Sequence& sequence, const KvShape& shape, int heads,
                                 const std::vector<int>& positions) {
    const auto q_width = static_cast<std::size_t>(heads * shape.head_dim);
    const auto out_width = static_cast<std::size_t>(heads * shape.value_dim());
    q_ = Random(99).normal(positions.size() * q_width, 2.0F);
    out_.assign(positions.size() * out_width, std::numeric_limits<float>::quiet_NaN());
    std::vector<AttentionRow> result;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      result.push_back({&q_[i * q_width], &out_[i * out_width], sequence.blocks(), positions[i]});
    }
    return result;
  }

  /// The bits of attention over these rows on `threads` threads.
  std::vector<std::uint32_t> compute(const Isa& isa, int threads, const KvShape& shape, const AttentionHeads& heads,
                                     std::span<const AttentionRow> batch) {
    ThreadTeam team(threads);
    std::fill(out_.begin(), out_.end(), std::numeric_limits<float>::quiet_NaN());
    attention({isa, team}, shape, heads, batch, workspace_);
    return bits_of(out_);
  }

  /// The largest distance from the naive model over all rows and heads.
  static double worst_error(Sequence& sequence, const KvShape& shape, const AttentionHeads& heads,
                            std::span<const AttentionRow> batch,
                            const std::function<bool(const AttentionRow&, int)>& sees) {
    double worst = 0;
    for (const AttentionRow& row : batch) {
      for (int head = 0; head < heads.heads; ++head) {
        const auto exact = sequence.naive(
            row.q + head * shape.head_dim, head / (heads.heads / shape.kv_heads), static_cast<double>(heads.scale),
            [&](int j) { return j <= row.position && sees(row, j); },
            heads.sinks != nullptr ? heads.sinks[head] : -std::numeric_limits<double>::infinity());
        for (std::size_t i = 0; i < exact.size(); ++i) {
          const double actual = row.out[static_cast<std::size_t>(head) * exact.size() + i];
          const double error = std::abs(actual - exact[i]);
          worst = error <= worst ? worst : error;  // NaN becomes the worst and stays
        }
      }
    }
    return worst;
  }
  static bool everything(const AttentionRow&, int) { return true; }

  ThreadTeam alone_{1};
  Context context_{*GetParam(), alone_};
  Workspace workspace_;
  std::vector<float> q_, out_;
};

}  // namespace sluice::kernels
