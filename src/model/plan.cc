#include "model/plan.h"

#include <algorithm>

#include "base/error.h"
#include "cache/available_memory.h"
#include "cache/expert_cache.h"
#include "model/families/family.h"
#include "model/session.h"

namespace sluice::model {
namespace {

/// Positions when neither the user nor the model asks for fewer: beyond it the key-value cache of a large model
/// would take memory from the expert slots for a length most runs never reach.
constexpr int kDefaultContext = 8192;

/// Prompt tokens computed at once. Each distinct expert is read once per chunk, so streaming wants large chunks; the
/// batched kernels gain nothing more beyond this.
constexpr int kDefaultPrefillChunk = 512;

int chosen_context(const ModelSpec& spec, const RuntimeSettings& settings) {
  if (settings.ctx_size == 0) return std::min(spec.max_context, kDefaultContext);
  if (settings.ctx_size > spec.max_context) {
    fail("--ctx-size: {} positions asked for, the model was made for {}", settings.ctx_size, spec.max_context);
  }
  return settings.ctx_size;
}

/// Applies --experts-per-token to every MoE layer; returns the number in use, 0 without MoE layers.
int apply_experts_per_token(ModelSpec& spec, int asked, std::vector<std::string>& notices) {
  int top_k = 0;
  for (LayerSpec& layer : spec.layers) {
    auto* moe = std::get_if<MoeSpec>(&layer.feed_forward);
    if (moe == nullptr) continue;
    if (asked > moe->experts) fail("--experts-per-token: {} asked for, the model has {} experts", asked, moe->experts);
    if (asked > 0 && asked != moe->top_k) {
      if (top_k == 0) {
        notices.push_back(
            fmt::format("--experts-per-token {} changes the model: it was made for {}", asked, moe->top_k));
      }
      moe->top_k = asked;
    }
    top_k = std::max(top_k, moe->top_k);
  }
  if (top_k == 0 && asked > 0)
    notices.emplace_back("requested --experts-per-token, got none because the model is dense");
  return top_k;
}

/// Floats of scratch that one row of a pass takes: the sizes that forward() and MoeExecutor take from the workspace,
/// layers one after the other, so the largest counts.
std::uint64_t scratch_bytes_per_row(const ModelSpec& spec) {
  // An input prepared for a quantized product: int16 values, and scales and sums per group of at least 16.
  constexpr double kPreparedBytes = 2 + 8.0 / 16;
  const double hidden = spec.hidden;
  double largest = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    const double q = static_cast<double>(a.heads) * a.head_dim;
    const double kv = static_cast<double>(a.kv_heads) * a.head_dim;
    const double attention = 4 * (2 * q + 2 * kv) + kPreparedBytes * (hidden + q);
    double feed_forward = 0;
    if (const auto* mlp = std::get_if<MlpSpec>(&layer.feed_forward)) {
      feed_forward = 4 * 2.0 * mlp->width + kPreparedBytes * (hidden + mlp->width);
    } else {
      const auto& moe = std::get<MoeSpec>(layer.feed_forward);
      // Router scores; per chosen expert its output, gate and up rows, prepared inputs, and the lists of jobs.
      constexpr double kJobBytes = 64;
      feed_forward = 4.0 * moe.experts +
                     moe.top_k * (4 * (hidden + 2.0 * moe.width) + kPreparedBytes * (hidden + moe.width) + kJobBytes);
    }
    largest = std::max({largest, attention, feed_forward});
  }
  return static_cast<std::uint64_t>(4 * 3 * hidden + largest);  // x, its norm and a block's output stay throughout
}

/// Logits of the few rows that are computed together, and the workspace's rounding.
std::uint64_t scratch_bytes_fixed(const ModelSpec& spec) {
  return kLogitRows * sizeof(float) * static_cast<std::uint64_t>(spec.vocabulary + spec.hidden) + 2 * kMiB;
}

cache::BudgetRequest budget_request(const ModelPlan& plan, const RuntimeSettings& settings) {
  cache::BudgetRequest request;
  request.memory_limit = settings.memory;
  request.cache_slots = settings.cache_slots;
  request.available_bytes = cache::available_memory().bytes;
  request.dense_bytes = plan.dense.memory_bytes();
  request.kv_bytes = Session::kv_bytes(plan.kv_shapes, plan.context);
  request.scratch_fixed_bytes = scratch_bytes_fixed(plan.spec);
  request.scratch_bytes_per_token = scratch_bytes_per_row(plan.spec);
  const int chunk = settings.prefill_chunk > 0 ? settings.prefill_chunk : kDefaultPrefillChunk;
  request.wanted_chunk_tokens = std::min(chunk, plan.context);
  for (const ExpertLayout& layout : plan.experts) {
    request.layers.push_back({cache::slot_capacity(layout.records), layout.records.experts});
  }
  request.top_k = plan.top_k;
  return request;
}

}  // namespace

DType default_cache_type(const ModelSpec& spec) {
  constexpr std::uint64_t kExactPositionBytes = 16 * kKiB;
  std::uint64_t position_bytes = 0;
  for (const LayerSpec& layer : spec.layers) {
    position_bytes +=
        2 * sizeof(float) * static_cast<std::uint64_t>(layer.attention.kv_heads * layer.attention.head_dim);
  }
  return position_bytes <= kExactPositionBytes ? DType::f32 : DType::f16;
}

ModelPlan::ModelPlan(const std::filesystem::path& directory, const RuntimeSettings& settings)
    : config(Config::load(directory)),
      spec(build_spec(config)),
      checkpoint(stream::Checkpoint::open(directory)),
      quantization(Quantization::from_config(config)),
      dense(checkpoint, quantization) {
  cache_type = settings.cache_type.value_or(default_cache_type(spec));
  context = chosen_context(spec, settings);
  top_k = apply_experts_per_token(spec, settings.experts_per_token, notices);
  request_weights(spec, dense, weights);
  for (const LayerSpec& layer : spec.layers) {
    kv_shapes.push_back({layer.attention.kv_heads, layer.attention.head_dim, cache_type});
    if (const auto* moe = std::get_if<MoeSpec>(&layer.feed_forward)) {
      experts.push_back(find_experts(checkpoint, quantization, *moe, spec.hidden));
    }
  }
  if (experts.empty() && settings.cache_slots) {
    notices.emplace_back("requested --cache-slots, got none because the model is dense");
  }
  budget = cache::plan_budget(budget_request(*this, settings));
  notices.insert(notices.end(), budget.notices.begin(), budget.notices.end());
}

int ModelPlan::expert_count() const {
  int most = 0;
  for (const ExpertLayout& layout : experts) most = std::max(most, layout.records.experts);
  return most;
}

std::uint64_t ModelPlan::expert_bytes() const {
  std::uint64_t bytes = 0;
  for (const ExpertLayout& layout : experts) {
    bytes += layout.expert_bytes() * static_cast<std::uint64_t>(layout.records.experts);
  }
  return bytes;
}

std::uint64_t ModelPlan::token_expert_bytes() const {
  std::uint64_t bytes = 0;
  for (const ExpertLayout& layout : experts) bytes += layout.expert_bytes() * static_cast<std::uint64_t>(layout.top_k);
  return bytes;
}

std::uint64_t ModelPlan::token_dense_bytes() const {
  // A token reads every dense matrix but the embedding, of which it reads one row; a tied embedding is the head too.
  std::uint64_t bytes = dense.tensor_bytes();
  if (spec.head != spec.embedding) {
    const MatrixTensors embedding = find_matrix(checkpoint, quantization, spec.embedding, spec.vocabulary, spec.hidden);
    for (const auto* tensor : {embedding.codes, embedding.scales, embedding.biases}) {
      if (tensor != nullptr) bytes -= tensor->bytes;
    }
  }
  return bytes;
}

}  // namespace sluice::model
