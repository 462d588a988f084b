// The dense weights of a model, block by block as its spec names them. Filled by DenseLoader::load().
#pragma once

#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "kernels/matrix_view.h"
#include "model/dense_loader.h"
#include "model/spec.h"

namespace sluice::model {

// `cache` and `state` number the session's key-value caches and recurrent states.

struct AttentionWeights {
  const AttentionSpec* spec = nullptr;
  kernels::MatrixView q, k, v, o;
  std::span<const float> q_norm, k_norm, sinks;  // empty if there is none
  int cache = 0;
};

struct IndexerWeights {
  kernels::MatrixView q, k, weights;
  std::span<const float> k_norm, k_norm_bias;
  int cache = 0;  // of its keys
};

struct MlaWeights {
  const MlaSpec* spec = nullptr;
  kernels::MatrixView q_a, q, kv_a, o;
  std::span<const float> q_a_norm, kv_a_norm;
  kernels::MatrixView embed_q;      // [heads * latent, nope]
  kernels::MatrixView unembed_out;  // [heads * value, latent]
  std::optional<IndexerWeights> indexer;
  int cache = 0;  // of latent | rotated key
};

struct DeltaNetWeights {
  const DeltaNetSpec* spec = nullptr;
  std::vector<kernels::MatrixView> in;  // as spec->in
  std::span<const float> conv;          // [taps, channels]
  std::span<const float> dt_bias, a_log, norm;
  kernels::MatrixView out;
  int state = 0;
};

struct KdaWeights {
  const KdaSpec* spec = nullptr;
  kernels::MatrixView q, k, v, f_a, f_b, g_a, g_b, beta, o;
  std::span<const float> conv;            // [taps, 3 * heads * head_dim]
  std::span<const float> dt_bias, a_log;  // [heads * head_dim]
  std::span<const float> norm;            // [head_dim]
  int state = 0;
};

struct Mamba2Weights {
  const Mamba2Spec* spec = nullptr;
  kernels::MatrixView in, out;
  std::span<const float> conv;       // [taps, channels]
  std::span<const float> conv_bias;  // empty if there is none
  std::span<const float> dt_bias, a_log, d, norm;
  int state = 0;
};

struct MlpWeights {
  const MlpSpec* spec = nullptr;
  kernels::MatrixView gate, up, down;  // gate is empty for relu2
};

struct MoeWeights {
  const MoeSpec* spec = nullptr;
  kernels::MatrixView router;
  std::span<const float> correction, expert_scale;  // empty if there is none
  kernels::MatrixView latent_in, latent_out;        // empty without a latent
  std::optional<MlpWeights> shared;
  kernels::MatrixView shared_gate;                                        // empty if there is none
  std::span<const float> router_in, experts_in, experts_out, shared_out;  // norms of the branches
  int index = 0;                                                          // among the MoE blocks
};

using OperationWeights =
    std::variant<AttentionWeights, MlaWeights, DeltaNetWeights, KdaWeights, Mamba2Weights, MlpWeights, MoeWeights>;

struct BlockWeights {
  std::uint64_t bytes = 0;           // of everything dense in it
  std::uint64_t shared_bytes = 0;    // of them, of the shared expert
  std::uint64_t weights = 0;         // elements of its dense matrices: each is one multiplication for a token
  std::uint64_t shared_weights = 0;  // of them, of the shared expert
  std::span<const float> norm;       // [hidden]
  OperationWeights operation;
  std::span<const float> post_norm;     // [hidden], or empty
  std::span<const float> output_scale;  // [1], or empty
};

struct ModelWeights {
  kernels::MatrixView embedding;      // [vocabulary, hidden]
  std::span<const float> final_norm;  // [hidden]
  kernels::MatrixView head;           // [vocabulary, hidden]
  std::vector<BlockWeights> blocks;
};

/// Asks `loader` for every dense tensor of `spec` and sizes `weights` for it. Both must stay where they are until
/// load(), and `spec` as long as the weights are used.
void request_weights(const ModelSpec& spec, DenseLoader& loader, ModelWeights& weights);

/// The same for the blocks alone.
void request_blocks(const ModelSpec& spec, DenseLoader& loader, std::vector<BlockWeights>& blocks);

}  // namespace sluice::model
