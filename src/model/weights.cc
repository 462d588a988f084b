#include "model/weights.h"

#include "model/kv_b_split.h"

namespace sluice::model {
namespace {

/// Requests the weights of one block after the other, and numbers their caches and states.
class Requests {
 public:
  Requests(DenseLoader& loader, int hidden) : loader_(loader), hidden_(hidden) {}

  void operator()(const AttentionSpec& spec, OperationWeights& operation) {
    auto& weights = start<AttentionWeights>(spec, operation);
    const int q_rows = spec.heads * spec.head_dim;
    const int kv_rows = spec.kv_heads * spec.head_dim;
    loader_.matrix(spec.q, spec.output_gate ? 2 * q_rows : q_rows, hidden_, weights.q);
    loader_.matrix(spec.k, kv_rows, hidden_, weights.k);
    if (!spec.v.path.empty()) loader_.matrix(spec.v, kv_rows, hidden_, weights.v);
    loader_.matrix(spec.o, hidden_, q_rows, weights.o);
    if (spec.qk_norm != QkNorm::none) {
      const bool all = spec.qk_norm == QkNorm::all_heads;
      loader_.vector(spec.q_norm, all ? q_rows : spec.head_dim, weights.q_norm);
      loader_.vector(spec.k_norm, all ? kv_rows : spec.head_dim, weights.k_norm);
    }
    if (!spec.sinks.empty()) loader_.vector({spec.sinks}, spec.heads, weights.sinks);
    weights.cache = caches_++;
  }

  void operator()(const MlaSpec& spec, OperationWeights& operation) {
    auto& weights = start<MlaWeights>(spec, operation);
    if (spec.q_latent_dim > 0) {
      loader_.matrix(spec.q_a, spec.q_latent_dim, hidden_, weights.q_a);
      loader_.vector(spec.q_a_norm, spec.q_latent_dim, weights.q_a_norm);
    }
    const int q_cols = spec.q_latent_dim > 0 ? spec.q_latent_dim : hidden_;
    loader_.matrix(spec.q, spec.heads * (spec.nope_dim + spec.rope_dim), q_cols, weights.q);
    loader_.matrix(spec.kv_a, spec.latent_dim + spec.rope_dim, hidden_, weights.kv_a);
    loader_.vector(spec.kv_a_norm, spec.latent_dim, weights.kv_a_norm);
    if (has_matrix(loader_.checkpoint(), spec.embed_q)) {
      loader_.stack(spec.embed_q, spec.heads, spec.latent_dim, spec.nope_dim, weights.embed_q);
      loader_.stack(spec.unembed_out, spec.heads, spec.value_dim, spec.latent_dim, weights.unembed_out);
    } else {
      request_kv_b_split(spec, loader_, weights.embed_q, weights.unembed_out);
    }
    loader_.matrix(spec.o, hidden_, spec.heads * spec.value_dim, weights.o);
    weights.cache = caches_++;
    if (!spec.indexer) return;
    const IndexerSpec& indexer = *spec.indexer;
    IndexerWeights& index = weights.indexer.emplace();
    loader_.matrix(indexer.q, indexer.heads * indexer.head_dim, q_cols, index.q);
    loader_.matrix(indexer.k, indexer.head_dim, hidden_, index.k);
    loader_.matrix(indexer.weights, indexer.heads, hidden_, index.weights);
    loader_.vector({indexer.k_norm}, indexer.head_dim, index.k_norm);
    loader_.vector({indexer.k_norm_bias}, indexer.head_dim, index.k_norm_bias);
    index.cache = caches_++;
  }

  void operator()(const DeltaNetSpec& spec, OperationWeights& operation) {
    auto& weights = start<DeltaNetWeights>(spec, operation);
    weights.in.resize(spec.in.size());
    for (std::size_t i = 0; i < spec.in.size(); ++i) {
      loader_.matrix({spec.in[i].path}, spec.in[i].rows, hidden_, weights.in[i]);
    }
    loader_.convolution(spec.conv, spec.shape.channels(), weights.conv);
    loader_.vector({spec.dt_bias}, spec.shape.value_heads, weights.dt_bias);
    loader_.vector({spec.a_log}, spec.shape.value_heads, weights.a_log);
    loader_.vector({spec.norm}, spec.shape.value_dim, weights.norm);
    loader_.matrix(spec.out, hidden_, spec.shape.value_width(), weights.out);
    weights.state = states_++;
  }

  void operator()(const KdaSpec& spec, OperationWeights& operation) {
    auto& weights = start<KdaWeights>(spec, operation);
    const int width = spec.heads * spec.head_dim;
    loader_.matrix(spec.q, width, hidden_, weights.q);
    loader_.matrix(spec.k, width, hidden_, weights.k);
    loader_.matrix(spec.v, width, hidden_, weights.v);
    loader_.matrix(spec.f_a, spec.head_dim, hidden_, weights.f_a);
    loader_.matrix(spec.f_b, width, spec.head_dim, weights.f_b);
    loader_.matrix(spec.g_a, spec.head_dim, hidden_, weights.g_a);
    loader_.matrix(spec.g_b, width, spec.head_dim, weights.g_b);
    loader_.matrix(spec.beta, spec.heads, hidden_, weights.beta);
    loader_.convolution(spec.conv, 3 * width, weights.conv);
    loader_.vector({spec.dt_bias}, width, weights.dt_bias);
    loader_.vector({spec.a_log}, spec.heads, weights.a_log, spec.head_dim);
    loader_.vector({spec.norm}, spec.head_dim, weights.norm);
    loader_.matrix(spec.o, hidden_, width, weights.o);
    weights.state = states_++;
  }

  void operator()(const Mamba2Spec& spec, OperationWeights& operation) {
    auto& weights = start<Mamba2Weights>(spec, operation);
    loader_.matrix(spec.in, spec.shape.projected(), hidden_, weights.in);
    loader_.convolution(spec.conv, spec.shape.channels(), weights.conv);
    if (!spec.conv.bias.empty()) loader_.vector({spec.conv.bias}, spec.shape.channels(), weights.conv_bias);
    loader_.vector({spec.dt_bias}, spec.shape.heads, weights.dt_bias);
    loader_.vector({spec.a_log}, spec.shape.heads, weights.a_log);
    loader_.vector({spec.d}, spec.shape.heads, weights.d);
    loader_.vector({spec.norm}, spec.shape.inner(), weights.norm);
    loader_.matrix(spec.out, hidden_, spec.shape.inner(), weights.out);
    weights.state = states_++;
  }

  void operator()(const MlpSpec& spec, OperationWeights& operation) {
    request(spec, start<MlpWeights>(spec, operation));
  }

  void operator()(const MoeSpec& spec, OperationWeights& operation) {
    auto& weights = start<MoeWeights>(spec, operation);
    loader_.matrix(spec.router.linear, spec.experts, hidden_, weights.router);
    if (!spec.router.correction.empty()) loader_.vector({spec.router.correction}, spec.experts, weights.correction);
    if (!spec.router.expert_scale.empty()) {
      loader_.vector({spec.router.expert_scale}, spec.experts, weights.expert_scale);
    }
    if (spec.latent_dim > 0) {
      loader_.matrix(spec.latent_in, spec.latent_dim, hidden_, weights.latent_in);
      loader_.matrix(spec.latent_out, hidden_, spec.latent_dim, weights.latent_out);
    }
    const std::uint64_t before_bytes = loader_.requested_bytes();
    const std::uint64_t before_weights = loader_.requested_weights();
    if (spec.shared) request(*spec.shared, weights.shared.emplace());
    if (!spec.shared_gate.path.empty()) loader_.matrix(spec.shared_gate, 1, hidden_, weights.shared_gate);
    shared_bytes_ = loader_.requested_bytes() - before_bytes;
    shared_weights_ = loader_.requested_weights() - before_weights;
    if (spec.norms) {
      loader_.vector(spec.norms->router_in, hidden_, weights.router_in);
      loader_.vector(spec.norms->experts_in, hidden_, weights.experts_in);
      loader_.vector(spec.norms->experts_out, hidden_, weights.experts_out);
      loader_.vector(spec.norms->shared_out, hidden_, weights.shared_out);
    }
    weights.index = moe_blocks_++;
  }

  std::uint64_t shared_bytes() const { return shared_bytes_; }
  std::uint64_t shared_weights() const { return shared_weights_; }

 private:
  template <typename Weights, typename Spec>
  static Weights& start(const Spec& spec, OperationWeights& operation) {
    Weights& weights = operation.emplace<Weights>();
    weights.spec = &spec;
    return weights;
  }

  void request(const MlpSpec& spec, MlpWeights& weights) {
    weights.spec = &spec;
    if (!spec.gate.path.empty()) loader_.matrix(spec.gate, spec.width, hidden_, weights.gate);
    loader_.matrix(spec.up, spec.width, hidden_, weights.up);
    loader_.matrix(spec.down, hidden_, spec.width, weights.down);
  }

  DenseLoader& loader_;
  int hidden_;
  int caches_ = 0;
  int states_ = 0;
  int moe_blocks_ = 0;
  std::uint64_t shared_bytes_ = 0;  // of the last MoE block
  std::uint64_t shared_weights_ = 0;
};

}  // namespace

void request_blocks(const ModelSpec& spec, DenseLoader& loader, std::vector<BlockWeights>& blocks) {
  blocks.resize(spec.blocks.size());
  Requests requests(loader, spec.hidden);
  for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
    const BlockSpec& block = spec.blocks[i];
    BlockWeights& target = blocks[i];
    const std::uint64_t before_bytes = loader.requested_bytes();
    const std::uint64_t before_weights = loader.requested_weights();
    loader.vector(block.norm, spec.hidden, target.norm);
    std::visit([&](const auto& operation) { requests(operation, target.operation); }, block.operation);
    if (block.post_norm) loader.vector(*block.post_norm, spec.hidden, target.post_norm);
    if (!block.output_scale.empty()) loader.vector({block.output_scale}, 1, target.output_scale);
    target.bytes = loader.requested_bytes() - before_bytes;
    target.weights = loader.requested_weights() - before_weights;
    if (!std::holds_alternative<MoeSpec>(block.operation)) continue;
    target.shared_bytes = requests.shared_bytes();
    target.shared_weights = requests.shared_weights();
  }
}

void request_weights(const ModelSpec& spec, DenseLoader& loader, ModelWeights& weights) {
  loader.matrix({spec.embedding}, spec.vocabulary, spec.hidden, weights.embedding);
  loader.vector(spec.final_norm, spec.hidden, weights.final_norm);
  loader.matrix({spec.head}, spec.vocabulary, spec.hidden, weights.head);
  request_blocks(spec, loader, weights.blocks);
}

}  // namespace sluice::model
