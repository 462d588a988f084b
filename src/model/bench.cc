#include "model/bench.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>

#include "base/clock.h"
#include "base/error.h"
#include "kernels/vector.h"
#include "model/rates.h"
#include "model/routes/parse_trace.h"
#include "model/routes/route_generator.h"
#include "model/routes/route_source.h"

namespace sluice::model {
namespace {

constexpr std::string_view kTrace = "trace:";
constexpr std::string_view kGenerated = "gen:";

/// What replaces the model's routes; empty for its own.
RouteSource route_source(const BenchRequest& request, const RouteShape& shape) {
  if (request.routing == "model") return {};
  if (shape.layers == 0) fail("--routing: the model is dense, it routes nothing");
  if (request.routing.starts_with(kGenerated)) {
    const RoutingProfile& profile = routing_profile(request.routing.substr(kGenerated.size()), "--routing");
    return generated_routes(profile, shape, request.seed, request.lookahead_recall);
  }
  if (request.routing.starts_with(kTrace)) {
    const std::string file = request.routing.substr(kTrace.size());
    return recorded_routes(read_trace(file), file, shape, request.seed, request.lookahead_recall);
  }
  fail_usage("--routing: '{}' is unknown; expected model, trace:FILE or gen:NAME", request.routing);
}

/// A loaded model with its routes, and the measurements over it.
class Bench {
 public:
  Bench(const std::filesystem::path& directory, const RuntimeSettings& settings,
        const std::vector<SettingRecord>& records, const BenchRequest& request, const std::atomic<bool>* cancel)
      : model_(Model::load(directory, settings)),
        recorder_(*model_, {}),
        records_(records),
        cancel_(cancel),
        lookahead_recall_(request.lookahead_recall) {
    const ModelInfo& info = model_->info();
    const RouteShape shape{info.moe_layers, info.experts, info.top_k};
    if (RouteSource source = route_source(request, shape); source.route) {
      source = counted(std::move(source), shape, guesses_);
      model_->override_routes(std::move(source.route));
      model_->override_guesses(std::move(source.guess));
      draw_routes_ = std::move(source.draw);
    }
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

  /// What `work` alone did, which takes `rows` through the model, between two measurements of the rates.
  template <typename Work>
  BenchRun measure(cache::Phase phase, BenchCache cache, int rows, Work work) {
    BenchRun run{phase, cache, {}, {}, {}};
    if (draw_routes_) draw_routes_(rows);
    const auto measured_rates = [&] {
      return phase == cache::Phase::prefill ? measure_prompt_rates(*model_) : measure_rates(*model_);
    };
    const Rates before = measured_rates();
    recorder_.history().count_from_here();
    const RunStatistics start = collect_statistics(*model_, {}, {}, {});
    const GuessCounts before_guesses = guesses_;
    const GenerateResult result = work(run.tokens);
    if (guesses_.chosen > before_guesses.chosen) {
      const GuessCounts own{guesses_.chosen - before_guesses.chosen, guesses_.found - before_guesses.found};
      run.lookahead = BenchLookahead{lookahead_recall_, own};
    }
    const auto mean = [&] {
      const Rates after = measured_rates();
      Rates rates = before;
      rates.disk = (before.disk + after.disk) / 2;
      rates.memory = (before.memory + after.memory) / 2;
      rates.multiply = (before.multiply + after.multiply) / 2;
      rates.disk_latency = (before.disk_latency + after.disk_latency) / 2;
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
  double lookahead_recall_;
  GuessCounts guesses_;                        // so far
  std::function<void(int rows)> draw_routes_;  // empty: the model routes
  std::vector<int> prompt_;
};

}  // namespace

std::vector<BenchRun> bench(const std::filesystem::path& directory, const RuntimeSettings& settings,
                            const std::vector<SettingRecord>& records, const BenchRequest& request,
                            const BenchProgress& progress, const std::atomic<bool>* cancel) {
  std::vector<BenchRun> runs;
  const auto measure_decode = [&](Bench& on, Session& session, int next, BenchCache cache) {
    runs.push_back(on.measure(cache::Phase::decode, cache, request.decode_tokens, [&](std::vector<int>& tokens) {
      return on.decode(session, next, request.decode_tokens, tokens);
    }));
  };
  const auto measure_prefill = [&](Bench& on, Session& session, int& next, BenchCache cache) {
    runs.push_back(on.measure(cache::Phase::prefill, cache, request.prompt_tokens, [&](std::vector<int>& tokens) {
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
