#include "model/plan.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cache/available_memory.h"
#include "cache/expert_cache.h"
#include "cache/part_reads.h"
#include "model/families/family.h"
#include "model/layers/layers.h"
#include "stream/mapped_files.h"

namespace sluice::model {
namespace {

/// Positions when neither the user nor the model asks for fewer: beyond it the key-value cache of a large model
/// would take memory from the expert slots for a length most runs never reach.
constexpr int kDefaultContext = 8192;

/// The share of the slots that a larger prompt chunk may take: a token of the answer misses more for good, while a
/// prompt is evaluated once.
constexpr int kMostSlotsForChunk = 8;  // one in eight

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
  for (BlockSpec& block : spec.blocks) {
    auto* moe = std::get_if<MoeSpec>(&block.operation);
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

/// What forward() and its blocks take from the workspace: blocks one after the other, so the largest counts.
ScratchBytes scratch_bytes(const ModelPlan& plan) {
  const ModelSpec& spec = plan.spec;
  ScratchBytes largest;
  for (const BlockSpec& block : spec.blocks) {
    const auto needs =
        std::visit([&](const auto& operation) { return scratch_bytes(operation, spec.hidden); }, block.operation);
    largest = {std::max(largest.fixed, needs.fixed), std::max(largest.per_row, needs.per_row)};
  }
  // x, its norm and a block's output stay throughout; logits are computed a few rows at a time.
  const double logits = static_cast<double>(kLogitRows) * sizeof(float) * (spec.vocabulary + spec.hidden);
  return {largest.fixed + logits + 2 * kMiB,
          largest.per_row + 4.0 * 3 * spec.hidden + 8.0 * static_cast<double>(plan.selection_words)};
}

bool has_indexer(const ModelSpec& spec) {
  return std::any_of(spec.blocks.begin(), spec.blocks.end(), [](const BlockSpec& block) {
    const auto* mla = std::get_if<MlaSpec>(&block.operation);
    return mla != nullptr && mla->indexer.has_value();
  });
}

/// Names of tensors that models carry and this program leaves aside: towers for pictures and sound, and heads that
/// predict further tokens.
std::optional<std::string> skipped_notice(const stream::Checkpoint& checkpoint) {
  static constexpr std::string_view kSkipped[] = {
      "vision_tower.", "model.visual.",      "visual.",      "model.vision_tower.", "multi_modal_projector.",
      "mm_projector.", "model.audio_tower.", "audio_tower.", "embed_vision.",       "embed_audio."};
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  for (const stream::TensorInfo& tensor : checkpoint.tensors()) {
    const auto matches = [&](std::string_view prefix) { return tensor.name.starts_with(prefix); };
    if (std::none_of(std::begin(kSkipped), std::end(kSkipped), matches)) continue;
    ++count;
    bytes += tensor.bytes;
  }
  if (count == 0) return std::nullopt;
  return fmt::format("text only: {} tensors for pictures and sound are skipped ({})", count, format_bytes(bytes));
}

cache::BudgetRequest request_budget(const ModelPlan& plan, const RuntimeSettings& settings, bool to_run) {
  cache::BudgetRequest request;
  request.hold_to_available = to_run;
  request.memory_limit = settings.memory;
  if (!plan.mapped) request.cache_slots = settings.cache_slots;
  request.available_bytes = cache::available_memory().bytes;
  request.dense_bytes = plan.dense.memory_bytes();
  request.kv_bytes = plan.session.bytes(plan.context);
  const ScratchBytes scratch = scratch_bytes(plan);
  request.scratch_fixed_bytes = static_cast<std::uint64_t>(scratch.fixed);
  request.scratch_bytes_per_token = static_cast<std::uint64_t>(scratch.per_row);
  request.wanted_chunk_tokens = plan.session.chunk;
  for (const ExpertLayout& layout : plan.experts) {
    if (plan.mapped) break;  // their memory is the page cache
    request.layers.push_back({cache::slot_capacity(layout.records), layout.records.experts});
  }
  request.top_k = plan.top_k;
  // A guess is worth reading for one layer ahead, and no layer needs more experts for a token.
  request.staging_slots = plan.mapped || settings.prefetch == cache::LookaheadMode::off ? 0 : plan.top_k;
  return request;
}

}  // namespace

std::uint64_t head_bytes(const stream::Checkpoint& checkpoint, const ModelSpec& spec) {
  std::uint64_t bytes = 0;
  for (const char* tensor : {".weight", ".scales", ".biases"}) {
    if (const stream::TensorInfo* info = checkpoint.find(spec.head + tensor)) bytes += info->bytes;
  }
  return bytes;
}

SessionShape session_shape(const ModelSpec& spec, DType type) {
  SessionShape shape;
  for (const BlockSpec& block : spec.blocks) {
    const auto add_state = [&](int taps, int channels, std::size_t memory) {
      shape.states.push_back({static_cast<std::size_t>(taps - 1) * static_cast<std::size_t>(channels), memory});
    };
    if (const auto* attention = std::get_if<AttentionSpec>(&block.operation)) {
      shape.caches.push_back({{attention->kv_heads, attention->head_dim, type}, attention->window});
    } else if (const auto* mla = std::get_if<MlaSpec>(&block.operation)) {
      shape.caches.push_back({{1, mla->latent_dim + mla->rope_dim, type, mla->latent_dim}, 0});
      if (mla->indexer) shape.caches.push_back({{1, mla->indexer->head_dim, type, mla->indexer->head_dim}, 0});
    } else if (const auto* delta = std::get_if<DeltaNetSpec>(&block.operation)) {
      add_state(delta->conv.taps, delta->shape.channels(),
                static_cast<std::size_t>(delta->shape.value_width()) * static_cast<std::size_t>(delta->shape.key_dim));
    } else if (const auto* kda = std::get_if<KdaSpec>(&block.operation)) {
      const int width = kda->heads * kda->head_dim;
      add_state(kda->conv.taps, 3 * width, static_cast<std::size_t>(width) * static_cast<std::size_t>(kda->head_dim));
    } else if (const auto* mamba = std::get_if<Mamba2Spec>(&block.operation)) {
      add_state(mamba->conv.taps, mamba->shape.channels(),
                static_cast<std::size_t>(mamba->shape.inner()) * static_cast<std::size_t>(mamba->shape.state));
    }
  }
  return shape;
}

DType default_cache_type(const ModelSpec& spec) {
  constexpr std::uint64_t kExactPositionBytes = 16 * kKiB;
  std::uint64_t position_bytes = 0;
  for (const SessionShape::Cache& cache : session_shape(spec, DType::f32).caches) {
    position_bytes += cache.shape.block_bytes() / kernels::kKvBlock;
  }
  return position_bytes <= kExactPositionBytes ? DType::f32 : DType::f16;
}

ModelPlan::ModelPlan(const std::filesystem::path& directory, const RuntimeSettings& settings, bool to_run)
    : config(Config::load(directory)),
      checkpoint(stream::Checkpoint::open(directory)),
      spec(build_spec(config, [this](std::string_view name) { return checkpoint.find(name); })),
      quantization(Quantization::from_config(config)),
      dense(checkpoint, quantization) {
  cache_type = settings.cache_type.value_or(default_cache_type(spec));
  context = chosen_context(spec, settings);
  top_k = apply_experts_per_token(spec, settings.experts_per_token, notices);
  session = session_shape(spec, cache_type);
  session.context = context;
  chunk_given_ = settings.prefill_chunk > 0;
  session.chunk = std::min(settings.prefill_chunk > 0 ? settings.prefill_chunk : kDefaultPrefillChunk, context);
  if (has_indexer(spec)) selection_words = (static_cast<std::size_t>(context) + 63) / 64;
  request_weights(spec, dense, weights);
  for (const BlockSpec& block : spec.blocks) {
    if (const auto* moe = std::get_if<MoeSpec>(&block.operation)) {
      const int width = moe->latent_dim > 0 ? moe->latent_dim : spec.hidden;
      experts.push_back(find_experts(checkpoint, quantization, *moe, width));
    }
  }
  mapped = settings.io == stream::kMmap && !experts.empty();
  if (settings.cache_slots && mapped) {
    notices.emplace_back("requested --cache-slots, got none because --io mmap computes in place");
  }
  notices.insert(notices.end(), spec.notices.begin(), spec.notices.end());
  if (auto notice = skipped_notice(checkpoint)) notices.push_back(std::move(*notice));
  budget_request = request_budget(*this, settings, to_run);
  budget = cache::plan_budget(budget_request);
  chunk.tokens = budget.chunk_tokens;
  if (mapped) budget.origin = "--io mmap computes in place";
  notices.insert(notices.end(), budget.notices.begin(), budget.notices.end());
  if (settings.prefetch == cache::LookaheadMode::on && budget.staging_slots == 0) {
    const char* reason = experts.empty()                            ? "the model has no routed experts"
                         : mapped                                   ? "--io mmap computes in place"
                         : budget.slots_per_layer >= expert_count() ? "every expert has a slot"
                                                                    : "no memory is left for it";
    notices.push_back(fmt::format("requested --prefetch on, got off because {}", reason));
  }
}

bool ModelPlan::chunk_is_open() const {
  return !chunk_given_ && !mapped && budget.slots_per_layer < expert_count() &&
         budget.chunk_tokens == kDefaultPrefillChunk && context > kDefaultPrefillChunk;
}

void ModelPlan::choose_chunk(const PrefillRates& rates) {
  if (!chunk_is_open()) return;
  struct Larger {
    cache::BudgetRequest request;
    cache::Budget budget;
  };
  std::optional<Larger> larger;  // the last that was affordable
  const int slots_least = budget_request.cache_slots
                              ? budget.slots_per_layer
                              : budget.slots_per_layer - budget.slots_per_layer / kMostSlotsForChunk;
  const auto affordable = [&](int tokens) {
    SessionShape shape = session;
    shape.chunk = tokens;
    cache::BudgetRequest request = budget_request;
    request.wanted_chunk_tokens = tokens;
    request.kv_bytes = shape.bytes(context);
    try {
      cache::Budget planned = cache::plan_budget(request);
      if (planned.chunk_tokens < tokens || planned.slots_per_layer < slots_least) return false;
      if (planned.staging_slots < budget.staging_slots || planned.notices != budget.notices) return false;
      larger = Larger{std::move(request), std::move(planned)};
      return true;
    } catch (const Error&) {  // not even the floor of the slots fits beside it
      return false;
    }
  };
  chunk = choose_prefill_chunk(prefill_layers(*this), rates, context, affordable);
  if (!larger) return;
  session.chunk = chunk.tokens;
  budget_request = std::move(larger->request);
  budget = std::move(larger->budget);
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
  std::uint64_t bytes = dense.weight_bytes();
  if (spec.head != spec.embedding) {
    const MatrixTensors embedding =
        find_matrix(checkpoint, quantization, {spec.embedding}, spec.vocabulary, spec.hidden);
    for (const auto* tensor : {embedding.codes, embedding.scales, embedding.biases}) {
      if (tensor != nullptr) bytes -= tensor->bytes;
    }
  }
  return bytes;
}

std::uint64_t ModelPlan::prompt_weights() const {
  std::uint64_t count = 0;
  for (const BlockWeights& block : weights.blocks) count += block.weights;
  for (const ExpertLayout& layout : experts) count += layout.weights() * static_cast<std::uint64_t>(layout.top_k);
  return count;
}

cache::ScheduleModel schedule_model(const ModelPlan& plan) {
  cache::ScheduleModel schedule;
  std::uint64_t dense = 0;  // since the last MoE block
  for (std::size_t i = 0; i < plan.spec.blocks.size(); ++i) {
    const BlockWeights& block = plan.weights.blocks[i];
    dense += block.bytes;
    if (!std::holds_alternative<MoeSpec>(plan.spec.blocks[i].operation)) continue;
    const ExpertLayout& layout = plan.experts[schedule.layers.size()];
    schedule.layers.push_back({.before_router_bytes = dense - block.shared_bytes,
                               .shared_bytes = block.shared_bytes,
                               .expert_bytes = layout.expert_bytes(),
                               .read_bytes = cache::mean_read_bytes(layout.records)});
    dense = 0;
  }
  schedule.after_bytes =
      dense + plan.checkpoint.get(plan.spec.final_norm.tensor).bytes + head_bytes(plan.checkpoint, plan.spec);
  return schedule;
}

std::vector<PrefillLayer> prefill_layers(const ModelPlan& plan) {
  std::vector<PrefillLayer> layers;
  const cache::ScheduleModel schedule = schedule_model(plan);
  for (std::size_t i = 0; i < plan.spec.blocks.size(); ++i) {
    const auto* moe = std::get_if<MoeSpec>(&plan.spec.blocks[i].operation);
    if (moe == nullptr) continue;
    const ExpertLayout& layout = plan.experts[layers.size()];
    layers.push_back({.experts = moe->experts,
                      .top_k = moe->top_k,
                      .slots = std::min(plan.budget.slots_per_layer, moe->experts),
                      .read_bytes = schedule.layers[layers.size()].read_bytes,
                      .expert_weights = layout.weights(),
                      .shared_weights = plan.weights.blocks[i].shared_weights});
  }
  return layers;
}

}  // namespace sluice::model
