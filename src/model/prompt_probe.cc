#include "model/prompt_probe.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <variant>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {
namespace {

constexpr double kProbeSeconds = 0.1;
constexpr int kRows = 128;       // enough for the kernels of many rows, few enough for a large model
constexpr int kExpertSlots = 8;  // some are computed while others are read, as in a layer that has few

/// Blocks that take the same time: the operation, its weights as stored, and what it sees of the positions before.
using BlockKind = std::tuple<std::size_t, std::uint64_t, std::uint64_t, int, bool>;

BlockKind kind_of(const BlockSpec& block, const BlockWeights& weights) {
  const auto* attention = std::get_if<AttentionSpec>(&block.operation);
  const auto* mla = std::get_if<MlaSpec>(&block.operation);
  return {block.operation.index(), weights.bytes, weights.weights, attention != nullptr ? attention->window : 0,
          mla != nullptr && mla->shared_selection};
}

/// One block of each kind, in the order of the model, and how many there are of it.
struct Kinds {
  ModelSpec spec;
  std::vector<int> counts;
};

Kinds kinds_of(const ModelPlan& plan) {
  Kinds kinds{plan.spec, {}};
  kinds.spec.blocks.clear();
  std::vector<BlockKind> seen;
  for (std::size_t i = 0; i < plan.spec.blocks.size(); ++i) {
    const BlockKind kind = kind_of(plan.spec.blocks[i], plan.weights.blocks[i]);
    const auto found = std::find(seen.begin(), seen.end(), kind);
    if (found != seen.end()) {
      ++kinds.counts[static_cast<std::size_t>(found - seen.begin())];
      continue;
    }
    seen.push_back(kind);
    kinds.spec.blocks.push_back(plan.spec.blocks[i]);
    kinds.counts.push_back(1);
  }
  return kinds;
}

/// Values between -1 and 1 without a pattern that a kernel could notice.
std::vector<float> made_up(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(static_cast<std::int32_t>(state)) / 2147483648.0F;
  }
  return values;
}

/// Median seconds of a pass; `pass` returns how many of its own do not count.
template <typename PassFunction>
double median_seconds(const stream::Clock& clock, PassFunction pass) {
  pass();
  std::vector<double> times;
  const double begin = clock();
  for (double now = begin; times.empty() || now - begin < kProbeSeconds;) {
    const double start = now;
    const double apart = pass();
    now = clock();
    times.push_back(now - start - apart);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// What an MoE block computes besides its experts.
void apply_router(Pass& pass, const MoeWeights& weights, const float* h) {
  const kernels::Workspace::Mark mark(pass.workspace);
  const MoeSpec& spec = *weights.spec;
  const auto multiply = [&](const kernels::MatrixView& matrix, const float* x) {
    const std::span<float> y = pass.take(matrix.rows);
    const kernels::Projection projection[] = {{&matrix, y.data(), matrix.rows}};
    if (matrix.rows > 0) kernels::matmul(pass.context, x, pass.count(), projection, pass.workspace);
    return y;
  };
  const std::span<float> logits = multiply(weights.router, h);
  const std::span<int> ids = pass.workspace.take<int>(pass.floats(spec.top_k));
  route(pass.context, spec.router, spec.experts, spec.top_k, weights.correction, weights.expert_scale, logits, ids,
        pass.take(spec.top_k), pass.workspace);
  const std::span<float> latent = multiply(weights.latent_in, h);
  multiply(weights.latent_out, latent.data());
}

double probe_blocks(const ModelPlan& plan, stream::Reader& reader, const kernels::Context& context,
                    const stream::Clock& clock) {
  const Kinds kinds = kinds_of(plan);
  DenseLoader loader(plan.checkpoint, plan.quantization);
  std::vector<BlockWeights> blocks;
  request_blocks(kinds.spec, loader, blocks);
  loader.load(reader, {});

  const int count = std::min(kRows, plan.budget.chunk_tokens);
  const int before = (plan.budget.chunk_tokens - count) / 2;
  SessionShape shape = session_shape(kinds.spec, plan.cache_type);
  shape.context = before + count;
  shape.chunk = before + count;
  Session session(shape);
  session.append(std::vector<int>(static_cast<std::size_t>(before + count)));
  std::vector<PassRow> rows;
  for (int row = 0; row < count; ++row) rows.push_back({&session, 0, before + row});

  kernels::Workspace workspace;
  std::vector<std::uint64_t> selection(static_cast<std::size_t>(count) * plan.selection_words);
  const int hidden = plan.spec.hidden;
  Pass pass{.context = context,
            .workspace = workspace,
            .session = shape,
            .rows = rows,
            .hidden = hidden,
            .norm_eps = plan.spec.norm_eps,
            .selection = selection};
  std::vector<float> x = made_up(pass.floats(hidden));
  std::vector<float> h(x.size());
  std::vector<float> out(x.size());
  double seconds = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const double of_block = median_seconds(clock, [&] {
      kernels::rms_norm(context, x.data(), count, hidden, blocks[i].norm.data(), pass.norm_eps, h.data());
      if (const auto* moe = std::get_if<MoeWeights>(&blocks[i].operation)) {
        apply_router(pass, *moe, h.data());
      } else {
        std::visit([&](const auto& operation) { apply(pass, operation, x.data(), h.data(), out.data()); },
                   blocks[i].operation);
      }
      kernels::add(context, h.data(), static_cast<std::int64_t>(h.size()), out.data());
      return 0.0;
    });
    seconds += of_block * kinds.counts[i];
  }
  return seconds / count;
}

/// Experts of the first MoE layer on their way through a few slots.
class ExpertStream {
 public:
  ExpertStream(const ModelPlan& plan, int rows_per_expert, stream::Reader& reader, const kernels::Context& context)
      : layout_(plan.experts.front()),
        at_once_(std::min(layout_.records.experts, std::max(2 * kExpertSlots, layout_.top_k))),
        tokens_((at_once_ * rows_per_expert + layout_.top_k - 1) / layout_.top_k),
        cache_({layout_.records}, {.slots_per_layer = std::clamp(at_once_ / 2, 1, kExpertSlots)}, reader),
        executor_(context, &cache_, nullptr, {&layout_, 1}, MoePath::automatic),
        x_(made_up(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(layout_.up.cols))),
        y_(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(layout_.down.rows)),
        route_weights_(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(layout_.top_k), 1.0F) {}

  /// Reads the next experts and does nothing with them; returns the bytes.
  std::uint64_t read() {
    const std::uint64_t before = bytes_read();
    const std::vector<int> ids = next_experts();
    cache::Lease lease = cache_.acquire(0, ids, cache::Phase::prefill, ++step_);
    while (!lease.next().empty()) {
    }
    return bytes_read() - before;
  }

  /// Reads the next experts and computes them, each for about as many tokens; returns the seconds it waited for reads.
  double compute() {
    const double before = waited();
    const std::vector<int> experts = next_experts();
    std::vector<int> ids(route_weights_.size());
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = experts[i % experts.size()];
    executor_.run({0, tokens_, x_.data(), ids.data(), route_weights_.data(), cache::Phase::prefill, ++step_}, y_.data(),
                  {[] { return std::span<const int>(); }, [] {}}, workspace_);
    return waited() - before;
  }

  double multiplications() const {
    return static_cast<double>(route_weights_.size()) * static_cast<double>(layout_.weights());
  }

 private:
  std::uint64_t bytes_read() const { return cache_.counts(cache::Phase::prefill).bytes_read; }
  double waited() const { return cache_.stall_seconds(cache::Phase::prefill); }
  std::vector<int> next_experts() {
    std::vector<int> ids(static_cast<std::size_t>(at_once_));
    for (int& id : ids) id = next_++ % layout_.records.experts;
    return ids;
  }

  const ExpertLayout& layout_;
  int at_once_;
  int tokens_;
  cache::ExpertCache cache_;
  MoeExecutor executor_;
  kernels::Workspace workspace_;
  std::vector<float> x_, y_, route_weights_;
  int next_ = 0;
  std::uint64_t step_ = 0;
};

}  // namespace

PromptRates probe_prompt(const ModelPlan& plan, double distinct_experts, stream::Reader& reader,
                         const kernels::Context& context, const stream::Clock& clock) {
  PromptRates rates;
  rates.block_seconds = probe_blocks(plan, reader, context, clock);
  if (plan.experts.empty()) return rates;
  const double rows = plan.budget.chunk_tokens * plan.top_k / distinct_experts;
  ExpertStream experts(plan, std::max(1, static_cast<int>(std::lround(rows))), reader, context);
  std::uint64_t bytes = 0;  // about the same in every pass
  const double reading = median_seconds(clock, [&] {
    bytes = experts.read();
    return 0.0;
  });
  if (bytes > 0) rates.disk = static_cast<double>(bytes) / reading;
  rates.multiply = experts.multiplications() / median_seconds(clock, [&] { return experts.compute(); });
  return rates;
}

}  // namespace sluice::model
