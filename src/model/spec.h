// A model as data: what its blocks are and where their weights are named. A family file turns config.json into this;
// everything after it (loading, budget, forward) is the same for all families.
//
// A module path names a matrix: its tensors are PATH.weight and, if quantized, PATH.scales and PATH.biases (other
// layouts: matrix_tensors.h). A tensor path names one tensor exactly. Shapes are [outputs, inputs].
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/delta_net.h"
#include "kernels/mamba2.h"
#include "kernels/matmul.h"
#include "kernels/vector.h"

namespace sluice::model {

/// A module path, and whether PATH.bias is added to the product.
struct LinearSpec {
  std::string path;
  bool bias = false;
};

/// A vector of weights: times * (stored + plus). Some files store norms less one; the sum is rounded as it is stored.
struct VectorSpec {
  std::string tensor;
  float plus = 0;
  float times = 1;
};

/// Rotary embedding of the first dimensions of a head. No frequencies: none.
struct RopeSpec {
  std::vector<double> inv_freq;  // [rotated dims / 2]; angle = position * inv_freq
  double amplitude = 1;          // of what is rotated
  kernels::RopePairs pairs = kernels::RopePairs::halves;
};

/// What a norm of queries and keys spans.
enum class QkNorm : std::uint8_t { none, head, all_heads };

/// Grouped-query attention: q, k, v -> norm -> rotary embedding -> softmax(scale q k^T) v -> o.
struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;           // of the logits
  LinearSpec q, k, v, o;     // [heads * head_dim, hidden], ..., [hidden, heads * head_dim]; no v: what k gives
  bool output_gate = false;  // q is [heads, 2, head_dim]: the query, and g of out * sigmoid(g)
  QkNorm qk_norm = QkNorm::none;
  VectorSpec q_norm, k_norm;  // [head_dim], or of all heads
  bool v_norm = false;        // values are divided by their root mean square, per head
  RopeSpec rope;
  int window = 0;     // > 0: positions that a token sees at most, its own included
  std::string sinks;  // tensor path [heads], or empty
};

/// Which positions a token attends to, by a score of its own: sum over heads of w relu(q k), w from the input.
struct IndexerSpec {
  int heads = 0;
  int head_dim = 0;
  int top_k = 0;                    // positions chosen
  LinearSpec q, k, weights;         // [heads * head_dim, q latent], [head_dim, hidden], [heads, hidden]
  std::string k_norm, k_norm_bias;  // tensor paths [head_dim]: a layer norm
  RopeSpec rope;                    // of the first dimensions
};

/// Multi-head latent attention in its absorbed form: the cache holds one latent and one rotated key for all heads.
struct MlaSpec {
  int heads = 0;
  int nope_dim = 0, rope_dim = 0;  // of a query: the part that meets the latent, then the rotated part
  int value_dim = 0;               // of a head
  int latent_dim = 0;
  int q_latent_dim = 0;  // 0: q comes from the input
  float scale = 0;
  float norm_eps = 0;
  LinearSpec q_a;           // [q latent, hidden], with a q latent
  VectorSpec q_a_norm;      // [q latent]
  LinearSpec q;             // [heads * (nope + rope), q latent or hidden]
  LinearSpec kv_a;          // [latent + rope, hidden]
  VectorSpec kv_a_norm;     // [latent]
  std::string embed_q;      // module path [heads, latent, nope]
  std::string unembed_out;  // module path [heads, value, latent]
  std::string kv_b;         // or both in one, as other files store them: [heads * (nope + value), latent]
  LinearSpec o;             // [hidden, heads * value]
  RopeSpec rope;
  std::optional<IndexerSpec> indexer;
  bool shared_selection = false;  // attends to what the last indexer before this block chose
};

/// Rows of a module and the columns of the projected values that they fill.
struct RowsSpec {
  std::string path;  // module path [rows, hidden]
  int rows = 0;
  struct Piece {
    int row, count, column;
  };
  std::vector<Piece> pieces;
};

struct ConvSpec {
  std::vector<std::string> weights;  // tensor paths [channels, 1, taps] or [channels, taps, 1], one after the other
  std::string bias;                  // tensor path [channels], or empty
  int taps = 0;
};

/// The gated delta net (kernels/delta_net.h).
struct DeltaNetSpec {
  kernels::DeltaShape shape;
  std::vector<RowsSpec> in;  // q | k | v | z | b | a
  ConvSpec conv;
  std::string dt_bias, a_log, norm;  // tensor paths [value_heads], [value_heads], [value_dim]
  LinearSpec out;
};

/// Kimi delta attention: the delta rule with a decay per channel.
struct KdaSpec {
  int heads = 0;
  int head_dim = 0;
  LinearSpec q, k, v;                // [heads * head_dim, hidden]
  ConvSpec conv;                     // of q | k | v
  LinearSpec f_a, f_b;               // decay: [head_dim, hidden], [heads * head_dim, head_dim]
  LinearSpec g_a, g_b;               // output gate, likewise
  LinearSpec beta;                   // [heads, hidden]
  std::string dt_bias, a_log, norm;  // tensor paths [heads * head_dim], [heads], [head_dim]
  LinearSpec o;                      // [hidden, heads * head_dim]
};

/// The Mamba-2 mixer (kernels/mamba2.h).
struct Mamba2Spec {
  kernels::Mamba2Shape shape;
  LinearSpec in;  // [shape.projected(), hidden]
  ConvSpec conv;
  std::string dt_bias, a_log, d, norm;  // tensor paths [heads], [heads], [heads], [inner]
  float dt_low = 0;
  float dt_high = std::numeric_limits<float>::infinity();
  LinearSpec out;
};

/// down(activation(gate x, up x)); relu2 has no gate.
struct MlpSpec {
  int width = 0;
  kernels::Activation activation = kernels::Activation::swiglu;
  LinearSpec gate, up, down;
};

enum class RouterScoring : std::uint8_t {
  softmax,         // over all logits, then top-k
  softmax_chosen,  // top-k of the logits, then over the chosen
  sigmoid,         // of each logit, then top-k
};

/// Which experts a token goes to, with what weight.
struct RouterSpec {
  LinearSpec linear;  // [experts, hidden]
  RouterScoring scoring = RouterScoring::softmax;
  std::string correction;    // tensor path [experts] added to the scores for the choice alone, or empty
  std::string expert_scale;  // tensor path [experts] that multiplies the weights, or empty
  int groups = 1;            // of experts; only those of the best `group_top_k` groups are candidates
  int group_top_k = 1;
  bool normalize = false;  // weights are divided by their sum + normalize_eps
  float normalize_eps = 0;
  float scale = 1;  // of the weights
  kernels::TieRule ties = kernels::TieRule::higher_index;
};

/// How the rows of a matrix that holds gate and up are ordered.
enum class GateUpRows : std::uint8_t { halves, alternating };

/// Names of the routed experts' matrices. "{}" in a path stands for the expert's number: one matrix per expert.
/// Without it the experts are stacked: [experts, outputs, inputs].
struct ExpertNames {
  std::string gate, up, down;
  std::string gate_up;  // instead of gate and up: both in one matrix
  GateUpRows rows = GateUpRows::halves;
};

/// Norms that each branch of a block has to itself (Gemma 4).
struct BranchNorms {
  VectorSpec router_in, experts_in;    // of the block's input, before its own norm
  VectorSpec experts_out, shared_out;  // of the branches' results
};

/// Routed experts: y = sum of weight * expert(z), z = x or, between latent projections, down_latent x.
struct MoeSpec {
  int experts = 0;
  int top_k = 0;
  int width = 0;  // of one expert
  kernels::Activation activation = kernels::Activation::swiglu;
  RouterSpec router;
  std::vector<ExpertNames> names;    // layouts, the MLX one first; that of which tensors exist counts
  bool bias = false;                 // per expert and output
  int latent_dim = 0;                // 0: experts work on the hidden state
  LinearSpec latent_in, latent_out;  // [latent, hidden], [hidden, latent]
  std::optional<MlpSpec> shared;     // an expert that every token goes to
  LinearSpec shared_gate;            // [1, hidden]: its result times sigmoid of this; or no path
  std::optional<BranchNorms> norms;
};

using OperationSpec = std::variant<AttentionSpec, MlaSpec, DeltaNetSpec, KdaSpec, Mamba2Spec, MlpSpec, MoeSpec>;

/// x = (x + post_norm(operation(norm(x)))) * output_scale.
struct BlockSpec {
  int layer = 0;  // as the config counts
  VectorSpec norm;
  OperationSpec operation;
  std::optional<VectorSpec> post_norm = {};
  std::string output_scale = {};  // tensor path [1], or empty
};

struct ModelSpec {
  std::string model_type;
  int hidden = 0;
  int vocabulary = 0;
  int layers = 0;
  int max_context = 0;  // positions the model was made for
  float norm_eps = 0;
  std::string embedding;  // module path [vocabulary, hidden]
  float embedding_scale = 1;
  VectorSpec final_norm;
  std::string head;         // module path [vocabulary, hidden]; the embedding's again when tied
  float logit_softcap = 0;  // > 0: logits = cap * tanh(logits / cap)
  std::vector<BlockSpec> blocks;
  std::vector<std::string> notices;  // what the config asks for and the reference ignores, for the user
};

}  // namespace sluice::model
