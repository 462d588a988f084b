// What a model will need, worked out from its headers and config before anything large is read or reserved.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cache/budget.h"
#include "cache/schedule_bound.h"
#include "model/config.h"
#include "model/expert_layout.h"
#include "model/prefill_chunk.h"
#include "model/quantization.h"
#include "model/session.h"
#include "model/settings.h"
#include "model/spec.h"
#include "model/weights.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// Rows whose logits are computed together: enough to share a pass over the head, few enough that the logits of a
/// large vocabulary stay in megabytes.
inline constexpr int kLogitRows = 8;

/// Everything known about a checkpoint without its tensor data. Not movable: its parts refer to each other.
struct ModelPlan {
  /// Reads config.json and the safetensors headers, checks every tensor the model needs, and divides memory by
  /// `settings`: what this machine has limits it if it is `to_run` here, whatever they ask for. Throws Error naming the
  /// file, key, tensor or flag.
  ModelPlan(const std::filesystem::path& directory, const RuntimeSettings& settings, bool to_run = false);
  ModelPlan(const ModelPlan&) = delete;
  ModelPlan& operator=(const ModelPlan&) = delete;

  Config config;
  stream::Checkpoint checkpoint;
  ModelSpec spec;
  Quantization quantization;
  ModelWeights weights;  // views are filled by dense.load()
  DenseLoader dense;
  std::vector<ExpertLayout> experts;  // [MoE blocks]
  SessionShape session;
  DType cache_type = DType::f16;        // of keys and values
  std::size_t selection_words = 0;      // per row of a pass, for sparse attention
  int context = 0;                      // positions
  int top_k = 0;                        // experts per token, as it will be used; 0 for dense models
  bool mapped = false;                  // experts are computed in place, from a mapping: there are no slots
  cache::BudgetRequest budget_request;  // what the budget was planned for
  cache::Budget budget;
  PrefillChunk chunk;                // of prompts: why budget.chunk_tokens are that many
  std::vector<std::string> notices;  // "requested X, got Y because Z"

  /// Whether nobody gave the size of a prompt chunk, and a larger one could gain something: experts are read.
  bool chunk_is_open() const;
  /// Chooses the size of a prompt chunk from what this machine delivers (prefill_chunk.h) and divides memory anew, if
  /// it is open. A larger chunk takes at most an eighth of the slots, none of those that were asked for by number, and
  /// nothing that calls for a notice.
  void choose_chunk(const PrefillRates& rates);

  int expert_count() const;                  // of the largest layer; 0 for dense models
  std::uint64_t expert_bytes() const;        // of all routed experts, as stored
  std::uint64_t token_expert_bytes() const;  // of the experts of one token
  std::uint64_t token_dense_bytes() const;   // of the dense weights one token touches
  std::uint64_t prompt_weights() const;      // elements of all matrices that a prompt token meets, the head left out

 private:
  bool chunk_given_ = false;  // by a setting
};

/// The keys, values and states that a session of the blocks of `spec` keeps; for no context yet.
SessionShape session_shape(const ModelSpec& spec, DType type);

/// What a decoded token touches and reads, layer by layer: the model of the schedule bound. What follows the experts in
/// an MoE block (a projection back from the latent) counts to the next one.
cache::ScheduleModel schedule_model(const ModelPlan& plan);

/// What prompts take in each MoE layer, for the choice of a chunk.
std::vector<PrefillLayer> prefill_layers(const ModelPlan& plan);

/// Bytes of the matrix that makes logits; touched once per token, after all layers.
std::uint64_t head_bytes(const stream::Checkpoint& checkpoint, const ModelSpec& spec);

/// The element type of keys and values when nobody asks for one: f32 where one position of all layers takes at most
/// 16 KiB in it, else f16. It depends on the model alone, so memory settings cannot change a token. Rounding keys and
/// values to f16 is the largest error of the default arithmetic (docs/arithmetic.md has the figures), and small models
/// can do without it at no cost worth naming; a large one would pay with expert slots.
DType default_cache_type(const ModelSpec& spec);

}  // namespace sluice::model
