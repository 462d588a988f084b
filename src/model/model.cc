#include "model/model.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "model/json_file.h"
#include "model/model_state.h"
#include "model/rates_cache.h"

namespace sluice::model {
namespace {

/// Transfers in flight at most: beyond it no drive gains bandwidth.
constexpr unsigned kQueueDepth = 128;

/// Bytes of experts without slots, which a prompt reads chunk by chunk, from which on measuring this machine for the
/// choice of a chunk takes less time than a poor choice costs.
constexpr std::uint64_t kProbedBytes = kGiB;

std::uint64_t unslotted_bytes(const ModelPlan& plan) {
  return plan.expert_bytes() - std::min(plan.budget.slot_bytes, plan.expert_bytes());
}

int chosen_threads(const RuntimeSettings& settings) {
  return settings.threads > 0 ? settings.threads : kernels::available_cpus();
}

}  // namespace

Model::State::State(std::unique_ptr<ModelPlan> planned, const RuntimeSettings& chosen, int threads)
    : plan(std::move(planned)),
      settings(chosen),
      team(threads),
      context{kernels::select_isa(chosen.isa), team, chosen.activations} {}

void Model::State::load_dense(const LoadProgress& progress) {
  const std::span<const stream::FileInfo> shards = plan->checkpoint.files();
  const auto largest =
      std::max_element(shards.begin(), shards.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  reader.emplace(stream::Reader::open(settings.io, largest->path, kQueueDepth));
  for (const stream::FileInfo& file : shards) reader->add_file(file.path);
  warm = !plan->mapped && !settings.heat.empty() && file_exists(settings.heat);
  plan->dense.load(*reader, [&](std::uint64_t done, std::uint64_t total) {
    dense_bytes = total;
    if (progress) progress(done, total + warm_bytes());
  });
}

void Model::State::load_experts(const LoadProgress& progress) {
  if (!plan->experts.empty()) {
    std::vector<cache::LayerExperts> records;
    for (const ExpertLayout& layout : plan->experts) records.push_back(layout.records);
    if (plan->mapped) {
      for (const stream::FileInfo& file : plan->checkpoint.files()) files.add_file(file.path);
      mapped = std::make_unique<cache::MappedExperts>(records, files);
    } else {
      cache::CacheOptions options;
      options.slots_per_layer = plan->budget.slots_per_layer;
      options.staging_slots = plan->budget.staging_slots;
      options.lookahead = settings.prefetch;
      options.policy = settings.policy;
      cache = std::make_unique<cache::ExpertCache>(std::move(records), options, *reader);
      if (cache->slot_bytes() >= kWatchedSlotBytes) {
        watch_memory([] { return cache::read_memory_pressure(); }, steady_seconds);
      }
      prepare_heat(warm);
    }
    moe = std::make_unique<MoeExecutor>(context, cache.get(), mapped.get(), plan->experts, settings.moe_path);
    if (warm) {
      const std::uint64_t most = warm_bytes();
      info.warm_start = cache->fill(heat.layers, [&](std::uint64_t done) {
        if (progress) progress(dense_bytes + std::min(done, most), dense_bytes + most);
      });
    }
  }
  for (const BlockWeights& block : plan->weights.blocks) {
    if (std::holds_alternative<MoeWeights>(block.operation)) moe_blocks.push_back(&block);
  }
  rows.reserve(static_cast<std::size_t>(plan->budget.chunk_tokens));
}

void Model::State::prepare_heat(bool from_file) {
  heat.checkpoint = checkpoint_identity(plan->checkpoint);
  const std::filesystem::path directory = plan->checkpoint.directory().lexically_normal();
  heat.model = (directory.has_filename() ? directory : directory.parent_path()).filename().string();
  std::vector<int> experts;
  for (int layer = 0; layer < cache->layers(); ++layer) experts.push_back(cache->experts(layer));
  if (from_file) {
    heat.layers = load_heat(settings.heat, heat.checkpoint, experts).layers;
  } else {
    for (const int count : experts) heat.layers.emplace_back(count, 0.0);
  }
}

void Model::State::watch_memory(std::function<cache::MemoryPressure()> read, std::function<double()> seconds) {
  if (!cache) return;
  cache::WatchedSlots slots;
  slots.most = plan->budget.slots_per_layer;
  slots.least = std::min(plan->top_k, slots.most);
  slots.row_bytes = cache->slot_bytes() / static_cast<std::uint64_t>(slots.most);
  watch.emplace(slots, std::move(read), std::move(seconds));
}

void Model::State::follow_watch() {
  if (!watch) return;
  const std::optional<cache::MemoryWatch::Advice> advice = watch->poll();
  if (!advice) return;
  const int most = plan->budget.slots_per_layer;
  const bool was_full = cache->slots_restored() == cache->slots_retired();
  cache->use_slots(advice->slots);
  // Steps in between are many and tell nothing new.
  if (was_full) {
    log::warn("memory is short, {}: the cache gives slots back, {} of {} per layer are left", advice->reason,
              advice->slots, most);
  } else if (advice->slots == most) {
    log::info("memory is no longer short: all {} slots per layer are in use again", most);
  }
}

Model::Model() = default;
Model::~Model() = default;

std::unique_ptr<Model> Model::load(const std::filesystem::path& directory, const RuntimeSettings& settings,
                                   const LoadProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<Model> model(new Model);
  model->state_ = std::make_unique<State>(std::make_unique<ModelPlan>(directory, settings, true), settings,
                                          chosen_threads(settings));
  State& state = *model->state_;
  state.load_dense(progress);
  ModelPlan& plan = *state.plan;
  const bool probed = !settings.rates_file.empty() && plan.chunk_is_open() && unslotted_bytes(plan) >= kProbedBytes;
  if (probed) {
    const Rates rates = cached_rates(*model, RatesCache(settings.rates_file), false);
    plan.choose_chunk({.disk = rates.disk, .multiply = rates.multiply});
  }
  state.load_experts(progress);

  ModelInfo& info = state.info;
  info.model_type = plan.spec.model_type;
  info.directory = directory;
  info.hidden = plan.spec.hidden;
  info.vocabulary = plan.spec.vocabulary;
  info.layers = plan.spec.layers;
  info.context = plan.context;
  info.moe_layers = static_cast<int>(plan.experts.size());
  info.experts = plan.expert_count();
  info.top_k = plan.top_k;
  info.slots_per_layer = plan.budget.slots_per_layer;
  info.prefill_chunk = plan.budget.chunk_tokens;
  if (probed) info.chunk_origin = to_string(plan.chunk);
  info.threads = state.team.size();
  info.isa = state.context.isa.name;
  info.cache_type = plan.cache_type;
  info.dense_bytes = plan.budget.dense_bytes;
  info.expert_bytes = plan.expert_bytes();
  info.slot_bytes = state.cache ? state.cache->slot_bytes() : 0;
  info.staging_bytes = state.cache ? state.cache->staging_bytes() : 0;
  info.kv_bytes = plan.budget.kv_bytes;
  info.scratch_bytes = plan.budget.scratch_bytes;
  info.budget_bytes = plan.budget.limit_bytes.value_or(plan.budget.total_bytes());
  info.token_dense_bytes = plan.token_dense_bytes();
  info.token_expert_bytes = plan.token_expert_bytes();
  info.head_bytes = head_bytes(plan.checkpoint, plan.spec);
  info.prompt_weights = plan.prompt_weights();
  info.slots_origin = plan.budget.origin;
  info.notices = plan.notices;
  info.io = state.reader->choice();
  info.mapped = plan.mapped;
  if (plan.mapped) {
    info.io.engine = stream::kMmap;
    info.io.direct = false;
  } else if (settings.io == stream::kMmap) {
    info.notices.push_back(fmt::format("requested --io mmap, got {} because the model is dense", info.io.engine));
  } else if (!settings.io.empty() && settings.io != info.io.engine) {
    info.notices.push_back(info.io.reason);
  }
  info.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

Session Model::new_session() const { return Session(state_->plan->session); }

void Model::forward(std::span<const SequenceStep> steps, LogitsSink sink) { state_->forward(steps, sink); }

void Model::prefill(Session& session, std::span<const int> tokens, LogitsWanted logits, LogitsSink sink) {
  const auto chunk = static_cast<std::size_t>(state_->info.prefill_chunk);
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t count = std::min(chunk, tokens.size() - done);
    const bool last = done + count == tokens.size();
    const LogitsWanted wanted = logits == LogitsWanted::last && !last ? LogitsWanted::none : logits;
    const SequenceStep step{&session, tokens.subspan(done, count), wanted, true};
    forward(std::span(&step, 1),
            [&](int s, int row, std::span<float> values) { sink(s, static_cast<int>(done) + row, values); });
    done += count;
  }
}

const ModelInfo& Model::info() const { return state_->info; }
const ModelSpec& Model::spec() const { return state_->plan->spec; }
const ModelPlan& Model::plan() const { return *state_->plan; }
const cache::ExpertCache* Model::experts() const { return state_->cache.get(); }
const stream::Reader& Model::reader() const { return *state_->reader; }
const kernels::Context& Model::context() const { return state_->context; }
const stream::Checkpoint& Model::checkpoint() const { return state_->plan->checkpoint; }
std::span<const std::byte> Model::resident_weights() const { return state_->plan->dense.bytes(); }

stream::DriveProbe Model::probe_drive() {
  if (state_->cache) state_->cache->finish_reads();
  return stream::probe_drive(*state_->reader, state_->plan->checkpoint.files());
}

std::string Model::heat_text() const {
  const State& state = *state_;
  if (!state.cache) return "";
  Heat heat = state.heat;
  std::vector<std::vector<std::uint64_t>> lookups;
  for (int layer = 0; layer < state.cache->layers(); ++layer) lookups.push_back(state.cache->lookups(layer));
  add_lookups(heat, lookups, state.steps);
  return model::heat_text(heat);
}

void Model::watch_memory(std::function<cache::MemoryPressure()> read, std::function<double()> seconds) {
  state_->watch_memory(std::move(read), std::move(seconds));
}

void Model::observe_routes(RouteObserver observer) { state_->observer = std::move(observer); }
void Model::override_routes(RouteOverride override) { state_->route_override = std::move(override); }
void Model::override_guesses(GuessOverride override) { state_->guess_override = std::move(override); }

}  // namespace sluice::model
