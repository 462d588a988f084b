// A model as data: what its layers are and where their weights are named. A family file turns config.json into this;
// everything after it (loading, budget, forward) is the same for all families.
//
// A module path names a matrix: its tensors are PATH.weight and, if quantized, PATH.scales and PATH.biases. A tensor
// path names one tensor exactly.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/vector.h"

namespace sluice::model {

/// Grouped-query attention: q, k, v -> per-head norm -> rotary embedding -> softmax(scale q k^T) v -> o.
struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;                    // of the logits
  std::string q, k, v, o;             // module paths: [heads * head_dim, hidden], ..., [hidden, heads * head_dim]
  std::string q_norm, k_norm;         // tensor paths [head_dim]
  std::vector<double> rope_inv_freq;  // [rotated dims / 2]; angle = position * inv_freq
};

/// down(silu(gate x) * (up x)).
struct MlpSpec {
  int width = 0;
  std::string gate, up, down;  // module paths
};

/// Routed experts: softmax over all router logits, top-k, weights optionally normalised to sum 1.
struct MoeSpec {
  int experts = 0;
  int top_k = 0;
  int width = 0;  // of one expert
  bool normalize_top_k = false;
  kernels::TieRule ties = kernels::TieRule::higher_index;
  std::string router;      // module path [experts, hidden]
  std::string stacked;     // module prefix of stacked experts: PREFIX.gate_proj [experts, width, hidden], ...
  std::string per_expert;  // module prefix of one matrix per expert: PREFIX.7.gate_proj [width, hidden], ...
};

/// h = x + attention(norm(x)); out = h + feed_forward(norm(h)).
struct LayerSpec {
  std::string input_norm;  // tensor path [hidden]
  AttentionSpec attention;
  std::string post_attention_norm;  // tensor path [hidden]
  std::variant<MlpSpec, MoeSpec> feed_forward;
};

struct ModelSpec {
  std::string model_type;
  int hidden = 0;
  int vocabulary = 0;
  int max_context = 0;  // positions the model was made for
  float norm_eps = 0;
  std::string embedding;   // module path [vocabulary, hidden]
  std::string final_norm;  // tensor path [hidden]
  std::string head;        // module path [vocabulary, hidden]; the embedding's again when tied
  std::vector<LayerSpec> layers;
};

}  // namespace sluice::model
