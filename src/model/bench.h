// Measures how fast a model evaluates prompts and decodes, and how close that comes to the bounds.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/routes/route_source.h"
#include "model/settings.h"
#include "model/statistics.h"

namespace sluice::model {

struct BenchRequest {
  int prompt_tokens = 512;  // 0: no prefill is measured
  int decode_tokens = 128;  // 0: no decoding is measured
  int warm_up = 32;         // decode steps before a warm measurement
  /// Where routes come from: "model", "trace:FILE" (route-trace.md) or "gen:NAME" (route_generator.h).
  std::string routing = "model";
  std::uint64_t seed = 1;  // of prompt tokens, generated routes and guesses at routes
  /// Share of the experts that guesses at routes from elsewhere find, see routes/route_source.h: the lookahead cannot
  /// know them, and must not.
  double lookahead_recall = kLookaheadRecall;
};

enum class BenchCache : std::uint8_t {
  cold,  // no expert in memory when it begins
  warm,  // as a run leaves it: after a prompt and the warm-up
};

/// Guesses at routes from elsewhere than the model.
struct BenchLookahead {
  double configured_recall = 0;
  GuessCounts counts;  // counts.chosen > 0

  double achieved_recall() const { return static_cast<double>(counts.found) / static_cast<double>(counts.chosen); }
};

/// One measurement. The statistics are of it alone, with rates measured right before and right after it (their mean).
struct BenchRun {
  cache::Phase phase = cache::Phase::decode;
  BenchCache cache = BenchCache::cold;
  RunStatistics statistics;
  std::vector<int> tokens;                  // decoded, greedily; of prefill the one behind the prompt
  std::optional<BenchLookahead> lookahead;  // none if nothing was guessed, or routes and guesses were the model's own
};

/// Tells what is being measured: "decode, cold".
using BenchProgress = std::function<void(std::string_view what)>;

/// Measures prefill and decode, each with a cold and a warm cache, in this order: a fresh model decodes from one token
/// (cold); a fresh model evaluates the prompt (cold), decodes the warm-up and then the measured tokens (warm), and
/// evaluates the prompt again in a new session (warm). Prompt tokens are random; with generated or recorded routes the
/// text means nothing, but every byte is read and every product computed as for real text. Stops early, with what was
/// measured, once `cancel` is set. Throws Error, or UsageError for `routing`.
std::vector<BenchRun> bench(const std::filesystem::path& directory, const RuntimeSettings& settings,
                            const std::vector<SettingRecord>& records, const BenchRequest& request,
                            const BenchProgress& progress, const std::atomic<bool>* cancel = nullptr);

}  // namespace sluice::model
