// The inner loops behind vector.h, attention.h and the recurrent mixers: one table per instruction set.
//
// Every table gives the same bits, because every table is compiled from the same text: the *_canonical.h files are
// written over eight float lanes, and each instruction set only says what a lane operation is. A further instruction
// set is one more vector_lanes_*.h and a .cc of a few lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/activation.h"

namespace sluice::kernels {

/// Query vectors that share one pass over the keys and values of a kv head. 16 of them with their accumulators, eight
/// keys and the scores stay within 32 KiB of L1 at the usual head_dim of 128.
inline constexpr int kQueryTile = 16;

/// Elements of an 8-bit cache row that share one scale.
inline constexpr int kQ8Group = 32;

/// One group of an 8-bit cache row, as it lies in the cache: x = scale * code.
struct Q8Group {
  float scale;
  std::int8_t codes[kQ8Group];  // those beyond the end of the row are zero
};

/// Queries of one sequence that read the same kv head: several query heads, several tokens, or both. Which queries
/// share a tile decides speed only.
struct AttentionTile {
  struct Query {
    const float* q;                 // [key_dim]
    float* out;                     // [value_dim]
    std::int64_t first;             // sees positions first..position,
    std::int64_t position;          //
    const std::uint64_t* selected;  // of these only the ones whose bits are set, as AttentionRow::selected; or null
    float sink;                     // logit that takes part in the softmax with no value; -infinity: none
  };
  Query queries[kQueryTile];
  int count = 0;                             // of queries, >= 1
  const std::byte* const* blocks = nullptr;  // cache blocks of the sequence, as AttentionRow::blocks
  std::int64_t key_offset = 0;               // bytes from the start of a block to the keys of the kv head
  std::int64_t value_offset = 0;             // and to its values
  std::int64_t row_bytes = 0;                // from one position to the next, of keys and of values
  int key_dim = 0;                           // <= kMaxHeadDim
  int value_dim = 0;                         // <= key_dim
  DType type = DType::f16;                   // of the cache: f16, bf16, f32, or i8 (rows of Q8Group)
  float scale = 1.0F;
};

/// Floats that hold a query's share of the softmax over some positions: weighted sum of values, maximum and weight
/// (attention_canonical.h: a, m and l), each padded to eight lanes.
constexpr int partial_floats(int value_dim) { return (value_dim + 7) / 8 * 8 + 8; }

/// One block of keys for one query of sparse attention's index.
struct IndexBlock {
  const float* q;        // [heads, head_dim padded with zeros to a multiple of 8]
  const float* weights;  // [heads]
  int heads;
  int head_dim;           // <= kMaxHeadDim
  int count;              // of positions that the query sees in the block, 1..kKvBlock
  const std::byte* keys;  // rows of `type`, row_bytes apart
  std::int64_t row_bytes;
  DType type;
  float* scores;  // [kKvBlock]: the first `count` mean something
};

/// One position of `rows` rows of the state-space recurrence of one head (Mamba-2), in this order:
/// state = decay * state + (dt * x) (outer) b; y = state c + skip * x.
struct SsmStep {
  float* state;  // [rows, width], kept from position to position
  int rows;
  int width;
  float decay, dt, skip;
  const float* b;  // [width]
  const float* c;  // [width]
  float* x;        // [rows]: x, and then y
};

/// One position of `rows` rows of the gated delta rule of one head:
/// state *= decay; delta = beta * (v - state k); state += delta (outer) k; y = state q.
struct DeltaStep {
  float* state;  // [rows, width], kept from position to position
  int rows;
  int width;
  const float* q;      // [width]
  const float* k;      // [width]
  const float* decay;  // [width]
  float beta;
  const float* v;  // [rows]
  float* y;        // [rows], may be v
};

/// All pointers may have any alignment that float (or the 16-bit type) has; n may be any number, 0 included.
struct VectorKernels {
  /// One function of each of n elements; y may be x.
  using Map = void(const float* x, std::int64_t n, float* y);
  /// One function of each of n pairs; y may be either.
  using Glu = void(const float* gate, const float* up, std::int64_t n, float* y);

  /// One row: y = weight * (x / sqrt(mean(x^2) + eps)); weight null is all ones. y may be x.
  void (*rms_norm)(const float* x, int n, const float* weight, float eps, float* y);
  /// One row: y = weight * (x - mean) / sqrt(variance + eps) + bias. y may be x.
  void (*layer_norm)(const float* x, int n, const float* weight, const float* bias, float eps, float* y);
  /// y += x.
  void (*add)(const float* x, std::int64_t n, float* y);

  Map* exp;       // e^x, for every float
  Map* sigmoid;   // 1 / (1 + e^-x)
  Map* softplus;  // log(1 + e^x)
  Map* tanh;
  Map* relu2;  // max(x, 0)^2

  Glu* swiglu;          // silu(gate) * up
  Glu* gelu_tanh_glu;   // gelu(gate) * up, the tanh form
  Glu* clamped_swiglu;  // g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clip(up, -7, 7)
  Glu* sigmoid_glu;     // sigmoid(gate) * up

  /// Softmax in place.
  void (*softmax)(float* logits, int n);
  /// Rotate the pairs (x[i], x[i + half]), or (x[2i], x[2i + 1]), by the angles whose cosines are cos_sin[i] and sines
  /// cos_sin[half + i].
  void (*rotate_halves)(float* x, const float* cos_sin, int half);
  void (*rotate_adjacent)(float* x, const float* cos_sin, int half);

  /// Rounds n floats to `type`: f16, bf16 (to nearest even, overflow to infinity), f32 (a copy), i8 (a row of Q8Group).
  void (*encode)(DType type, const float* x, int n, std::byte* y);

  /// Attention of the queries of one tile.
  void (*attention)(const AttentionTile& tile);
  /// The same with the blocks apart, so that they may be shared out: each block gives partials
  /// [tile.count, partial_floats]; those of [first, first + count), one block after the other, are merged into running
  /// [tile.count, partial_floats], blocks in ascending order. `begin` sets that up, `end` turns it into the output.
  void (*attention_block)(const AttentionTile& tile, std::int64_t block, float* partials);
  void (*attention_begin)(const AttentionTile& tile, float* running);
  void (*attention_merge)(const AttentionTile& tile, std::int64_t first, int count, const float* partials,
                          float* running);
  void (*attention_end)(const AttentionTile& tile, const float* running);

  void (*index_block)(const IndexBlock& block);

  /// One position of a causal depthwise convolution over n channels, then silu: y = silu(bias + sum_j weight[j] in[j])
  /// where in[0 .. taps-2] is `state`, oldest first, and in[taps-1] is x. Then the state drops its oldest row and
  /// takes x. weight [taps, stride] and state [taps - 1, stride] begin at the first channel; bias may be null; y may
  /// be x.
  void (*conv_silu)(const float* weight, const float* bias, int taps, std::int64_t stride, float* state, const float* x,
                    int n, float* y);
  /// Time steps and decays of n heads or channels: x = clip(softplus(x + bias), low, high), decay = e^(-e^a_log x).
  void (*decay)(float* x, const float* bias, const float* a_log, float low, float high, int n, float* decay);
  void (*ssm_step)(const SsmStep& step);
  void (*delta_step)(const DeltaStep& step);
};

/// y = activation(gate, up), n elements; y may be gate or up. Without a gate, `gate` is not looked at.
inline void activate(const VectorKernels& kernels, Activation activation, const float* gate, const float* up,
                     std::int64_t n, float* y) {
  switch (activation) {
    case Activation::swiglu:
      return kernels.swiglu(gate, up, n, y);
    case Activation::gelu_tanh_glu:
      return kernels.gelu_tanh_glu(gate, up, n, y);
    case Activation::clamped_swiglu:
      return kernels.clamped_swiglu(gate, up, n, y);
    case Activation::relu2:
      return kernels.relu2(up, n, y);
  }
}

extern const VectorKernels kVectorScalar;
extern const VectorKernels kVectorAvx2;  // needs AVX2, FMA and F16C
extern const VectorKernels kVectorNeon;  // AArch64

}  // namespace sluice::kernels
