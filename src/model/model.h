// A loaded model: dense weights in memory, routed experts behind the slot cache, and the forward pass.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"
#include "cache/expert_cache.h"
#include "cache/memory_watch.h"
#include "kernels/isa.h"
#include "model/route_observer.h"
#include "model/session.h"
#include "model/settings.h"
#include "model/spec.h"
#include "stream/checkpoint.h"
#include "stream/drive_probe.h"
#include "stream/reader.h"

namespace sluice::model {

struct ModelPlan;

/// Which rows of a step get logits.
enum class LogitsWanted : std::uint8_t { none, last, all };

/// What one sequence adds in one forward pass: a prompt chunk, or one decoded token.
struct SequenceStep {
  Session* session = nullptr;
  std::span<const int> tokens;  // appended to the session; ids below the vocabulary size
  LogitsWanted logits = LogitsWanted::last;
  bool prompt = false;  // a single token of a prompt looks like one that is decoded, and is not counted as one
};

/// Receives the logits of one wanted row: the index of its step, the row in that step, f32 [vocabulary]. The span is
/// valid during the call; the receiver may overwrite it.
using LogitsSink = kernels::FunctionRef<void(int step, int row, std::span<float> logits)>;

/// Told during load: bytes read so far and in all, of dense weights and of experts for the slots of a warm start. The
/// latter may turn out fewer.
using LoadProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Sizes that were settled at load, for statistics and `inspect`.
struct ModelInfo {
  std::string model_type;
  std::filesystem::path directory;
  int hidden = 0, vocabulary = 0, layers = 0, context = 0;
  int moe_layers = 0, experts = 0, top_k = 0;  // experts: of the largest layer; 0 for dense models
  int slots_per_layer = 0;
  bool mapped = false;  // experts are computed in place, from a mapping: there are no slots
  stream::IoChoice io;  // how experts are read; for a dense model, its weights
  int prefill_chunk = 0;
  std::string chunk_origin;  // why it is that many; empty: it was given, or there was nothing to choose
  int threads = 0;
  std::string isa;
  DType cache_type = DType::f16;         // of keys and values
  std::uint64_t dense_bytes = 0;         // resident weights
  std::uint64_t expert_bytes = 0;        // all routed experts, on disk
  std::uint64_t slot_bytes = 0;          // slots in memory
  std::uint64_t staging_bytes = 0;       // for experts that are read ahead
  std::uint64_t kv_bytes = 0;            // at full context
  std::uint64_t scratch_bytes = 0;       // of one prefill chunk
  std::uint64_t budget_bytes = 0;        // what the process may use
  std::uint64_t token_dense_bytes = 0;   // dense weight bytes one decoded token touches
  std::uint64_t token_expert_bytes = 0;  // expert bytes one decoded token touches
  std::uint64_t head_bytes = 0;          // of the dense weights: a prompt touches them once, for its last token
  std::uint64_t prompt_weights = 0;      // multiplications that a prompt token takes: all weights it meets but the head
  std::string slots_origin;              // why there are that many slots
  double load_seconds = 0;
  cache::WarmStart warm_start;       // slots filled during load
  std::vector<std::string> notices;  // "requested X, got Y because Z": settings without effect, for the user
};

/// Slots below this are not worth giving back: the program itself takes as much.
inline constexpr std::uint64_t kWatchedSlotBytes = 64 * kMiB;

/// A model and everything it runs on. Used by one thread, which drives the thread team. Not movable: parts of it
/// refer to each other.
class Model {
 public:
  /// Opens and checks the checkpoint, plans memory, reads the dense weights. Throws Error naming the file, tensor or
  /// key that is wrong.
  static std::unique_ptr<Model> load(const std::filesystem::path& directory, const RuntimeSettings& settings,
                                     const LoadProgress& progress = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Session new_session() const;

  /// Runs all steps as one batch, appends their tokens to the sessions and gives the wanted logits to `sink`, in order
  /// of step and row. A session takes part at most once. At most prefill_chunk rows in all. Results of a sequence do
  /// not depend on what else is in the batch. Throws Error when a read fails or a context is full (then no token was
  /// appended). The pass counts as decode if every step is a single token outside a prompt, else as prefill.
  void forward(std::span<const SequenceStep> steps, LogitsSink sink);

  /// forward() over a long run of tokens of one session, in chunks. `row` in the sink counts from the first token.
  void prefill(Session& session, std::span<const int> tokens, LogitsWanted logits, LogitsSink sink);

  const ModelInfo& info() const;
  const ModelSpec& spec() const;
  const ModelPlan& plan() const;
  const cache::ExpertCache* experts() const;  // null for dense models, and if experts are mapped
  const stream::Reader& reader() const;       // of dense weights and slots
  const kernels::Context& context() const;    // what it computes with
  const stream::Checkpoint& checkpoint() const;
  /// The dense weights as they lie in memory, for the memory probe.
  std::span<const std::byte> resident_weights() const;
  /// How fast this drive delivers this checkpoint, measured now: stream/drive_probe.h. Not during a forward().
  stream::DriveProbe probe_drive();

  void observe_routes(RouteObserver observer);
  /// Experts are then chosen by `override` and not by the routers, which are computed all the same: to measure speed
  /// with recorded or generated routes. The text means nothing. An empty function ends it.
  void override_routes(RouteOverride override);
  /// What is read ahead is then guessed by `override` and not by the routers.
  void override_guesses(GuessOverride override);

  /// The text of a heat file: what was loaded, and the lookups since. Empty without a cache.
  std::string heat_text() const;

  /// Lets the cache give slots back when the kernel says that memory is short, see cache/memory_watch.h; changes no
  /// token. Models whose slots take at least kWatchedSlotBytes begin with it, over read_memory_pressure() and the
  /// steady clock; this puts others in their place. Does nothing without a cache.
  void watch_memory(std::function<cache::MemoryPressure()> read, std::function<double()> seconds);

 private:
  Model();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::model
