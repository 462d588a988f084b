#include "model/bench.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>

#include "base/clock.h"
#include "base/error.h"
#include "kernels/vector.h"
#include "model/rates.h"
#include "model/routes/parse_trace.h"
#include "model/routes/route_generator.h"
#include "model/routes/route_trace.h"

namespace sluice::model {
namespace {

constexpr std::string_view kTrace = "trace:";
constexpr std::string_view kGenerated = "gen:";

/// Recorded rows of each layer, one after the other; the first again after the last.
class TraceRoutes {
 public:
  TraceRoutes(RouteTrace trace, const ModelInfo& info, const std::string& file) : trace_(std::move(trace)) {
    rows_.resize(static_cast<std::size_t>(info.moe_layers));
    next_.resize(rows_.size());
    if (trace_.header.layers != info.moe_layers || trace_.header.experts > info.experts) {
      fail("{}: holds {} layers of {} experts, the model has {} of {}", file, trace_.header.layers,
           trace_.header.experts, info.moe_layers, info.experts);
    }
    for (const RouteTrace::Request& request : trace_.requests()) {
      for (std::size_t row = request.first_row; row < request.first_row + request.rows; ++row) {
        if (trace_.ids(row).size() != static_cast<std::size_t>(info.top_k)) {
          fail("{}: a row has {} experts, the model takes {}", file, trace_.ids(row).size(), info.top_k);
        }
        rows_[static_cast<std::size_t>(request.layer)].push_back(row);
      }
    }
    if (std::any_of(rows_.begin(), rows_.end(), [](const auto& rows) { return rows.empty(); })) {
      fail("{}: some layer has no route", file);
    }
  }

  void route(int layer, std::span<int> ids, std::span<float> weights) {
    const auto l = static_cast<std::size_t>(layer);
    const std::size_t row = rows_[l][next_[l]++ % rows_[l].size()];
    std::copy(trace_.ids(row).begin(), trace_.ids(row).end(), ids.begin());
    const std::span<const float> recorded = trace_.weights(row);
    if (recorded.empty()) {
      std::fill(weights.begin(), weights.end(), 1.0F / static_cast<float>(weights.size()));
    } else {
      std::copy(recorded.begin(), recorded.end(), weights.begin());
    }
  }

 private:
  RouteTrace trace_;
  std::vector<std::vector<std::size_t>> rows_;  // [layers] of the trace
  std::vector<std::size_t> next_;               // [layers]
};

/// What replaces the model's routes; empty for its own.
RouteOverride route_source(const BenchRequest& request, const ModelInfo& info) {
  if (request.routing == "model") return {};
  if (info.moe_layers == 0) fail("--routing: the model is dense, it routes nothing");
  if (request.routing.starts_with(kGenerated)) {
    const RoutingProfile& profile = routing_profile(request.routing.substr(kGenerated.size()), "--routing");
    const auto generator =
        std::make_shared<RouteGenerator>(profile, info.moe_layers, info.experts, info.top_k, request.seed);
    return [generator](int layer, int, std::span<int> ids, std::span<float> weights) {
      generator->route(layer, ids, weights);
    };
  }
  if (request.routing.starts_with(kTrace)) {
    const std::string file = request.routing.substr(kTrace.size());
    const auto routes = std::make_shared<TraceRoutes>(read_trace(file), info, file);
    return
        [routes](int layer, int, std::span<int> ids, std::span<float> weights) { routes->route(layer, ids, weights); };
  }
  fail_usage("--routing: '{}' is unknown; expected model, trace:FILE or gen:NAME", request.routing);
}

/// A loaded model with its routes, and the measurements over it.
class Bench {
 public:
  Bench(const std::filesystem::path& directory, const RuntimeSettings& settings,
        const std::vector<SettingRecord>& records, const BenchRequest& request, const std::atomic<bool>* cancel)
      : model_(Model::load(directory, settings)), recorder_(*model_, {}), records_(records), cancel_(cancel) {
    model_->override_routes(route_source(request, model_->info()));
    std::mt19937_64 random(request.seed);
    std::uniform_int_distribution<int> token(0, model_->info().vocabulary - 1);
    prompt_.resize(static_cast<std::size_t>(std::max(1, request.prompt_tokens)));
    std::generate(prompt_.begin(), prompt_.end(), [&] { return token(random); });
  }

  bool cancelled() const { return cancel_ != nullptr && cancel_->load(std::memory_order_relaxed); }

  /// Evaluates the prompt; `next` becomes the most probable token behind it.
  GenerateResult prefill(Session& session, int& next) {
    const double start = steady_seconds();
    model_->prefill(session, prompt_, LogitsWanted::last,
                    [&](int, int, std::span<float> logits) { next = kernels::argmax(logits); });
    GenerateResult result;
    result.prompt_tokens = static_cast<int>(prompt_.size());
    result.prefill_seconds = steady_seconds() - start;
    return result;
  }

  /// Decodes `steps` tokens from `next` on, greedily, and appends them to `tokens`.
  GenerateResult decode(Session& session, int& next, int steps, std::vector<int>& tokens) {
    GenerateResult result;
    const double start = steady_seconds();
    for (; result.decode_steps < steps && !cancelled(); ++result.decode_steps) {
      const SequenceStep step{&session, std::span<const int>(&next, 1), LogitsWanted::last};
      model_->forward(std::span(&step, 1), [&](int, int, std::span<float> logits) { next = kernels::argmax(logits); });
      tokens.push_back(next);
    }
    result.decode_seconds = steady_seconds() - start;
    result.generated_tokens = result.decode_steps;
    return result;
  }

  /// What `work` alone did, between two measurements of the rates.
  template <typename Work>
  BenchRun measure(cache::Phase phase, BenchCache cache, Work work) {
    BenchRun run{phase, cache, {}, {}};
    const Rates before = measure_rates(*model_);
    recorder_.history().count_from_here();
    const RunStatistics start = collect_statistics(*model_, {}, {}, {});
    const GenerateResult result = work(run.tokens);
    const auto mean = [&] {
      const Rates after = measure_rates(*model_);
      Rates rates = before;
      rates.disk = (before.disk + after.disk) / 2;
      rates.memory = (before.memory + after.memory) / 2;
      return rates;
    };
    run.statistics = collect_statistics(*model_, result, records_, mean, &recorder_, &start);
    return run;
  }

  Model& model() { return *model_; }
  int first_token() const { return prompt_[0]; }

 private:
  std::unique_ptr<Model> model_;
  RouteRecorder recorder_;
  const std::vector<SettingRecord>& records_;
  const std::atomic<bool>* cancel_;
  std::vector<int> prompt_;
};

}  // namespace

std::vector<BenchRun> bench(const std::filesystem::path& directory, const RuntimeSettings& settings,
                            const std::vector<SettingRecord>& records, const BenchRequest& request,
                            const BenchProgress& progress, const std::atomic<bool>* cancel) {
  std::vector<BenchRun> runs;
  const auto measure_decode = [&](Bench& on, Session& session, int next, BenchCache cache) {
    runs.push_back(on.measure(cache::Phase::decode, cache, [&](std::vector<int>& tokens) {
      return on.decode(session, next, request.decode_tokens, tokens);
    }));
  };
  const auto measure_prefill = [&](Bench& on, Session& session, int& next, BenchCache cache) {
    runs.push_back(on.measure(cache::Phase::prefill, cache, [&](std::vector<int>& tokens) {
      const GenerateResult result = on.prefill(session, next);
      tokens.push_back(next);
      return result;
    }));
  };
  if (request.decode_tokens > 0) {
    Bench on(directory, settings, records, request, cancel);
    Session session = on.model().new_session();
    progress("decode, cold");
    measure_decode(on, session, on.first_token(), BenchCache::cold);
    if (on.cancelled()) return runs;
  }
  Bench on(directory, settings, records, request, cancel);
  Session session = on.model().new_session();
  int next = on.first_token();
  if (request.prompt_tokens > 0) {
    progress("prefill, cold");
    measure_prefill(on, session, next, BenchCache::cold);
    if (on.cancelled()) return runs;
  }
  if (request.decode_tokens > 0) {
    progress("warm-up");
    std::vector<int> ignored;
    on.decode(session, next, request.warm_up, ignored);
    if (on.cancelled()) return runs;
    progress("decode, warm");
    measure_decode(on, session, next, BenchCache::warm);
    if (on.cancelled()) return runs;
  }
  if (request.prompt_tokens > 0) {
    progress("prefill, warm");
    Session again = on.model().new_session();
    measure_prefill(on, again, next, BenchCache::warm);
  }
  return runs;
}

}  // namespace sluice::model
