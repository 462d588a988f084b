// What `sluice plan` tells: what will be in memory, how fast that can be, what binds, and what would help.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/packing_probe.h"
#include "model/plan.h"
#include "model/prediction.h"
#include "model/rates.h"
#include "model/setting_record.h"
#include "stream/reader.h"

namespace sluice::model {

/// Speed at a number of slots, and the memory it takes.
struct PlanRow {
  DecodePrediction decode;
  std::uint64_t memory_bytes = 0;  // of the whole process
};

struct PlanReport {
  std::filesystem::path directory;
  std::string model_type;
  int layers = 0, moe_layers = 0, experts = 0, top_k = 0;  // experts: of the largest layer; 0 for dense models
  int context = 0;                                         // positions
  std::uint64_t expert_bytes = 0;                          // all routed experts, on disk
  cache::Budget budget;
  PrefillChunk chunk;  // why budget.chunk_tokens are that many
  Rates rates;
  std::optional<PackingRates> packing;  // none if each expert is read in one range already
  stream::IoChoice io;
  int threads = 0;
  std::string routes_origin;
  double recall = 0;  // share of the misses that the speeds of decode assume to be guessed a layer ahead
  DecodePrediction decode;
  PrefillPrediction prefill;       // once the slots have filled
  PrefillPrediction cold_prefill;  // while they are empty
  std::vector<PlanRow> rows;       // from a token's working set to all experts, ascending; empty for dense models
  DecodePrediction double_memory;  // with twice the bytes that the plan may use
  PrefillPrediction double_memory_prefill;
  DecodePrediction double_disk;  // with twice the disk's rate
  PrefillPrediction double_disk_prefill;
  std::vector<SettingRecord> settings;
  std::vector<std::string> notices;  // "requested X, got Y because Z"
};

/// Works everything out from a plan, the rates of this machine and routes; `rows` are those of a chunk of the plan.
/// `policy` as in RuntimeSettings. settings, notices, io, threads and packing are left to the caller.
PlanReport make_plan_report(const ModelPlan& plan, const Rates& rates, const PromptRates& prompt,
                            const PlanRoutes& routes, const ChunkRows& rows, std::string_view policy);

/// For people, newline-terminated.
std::string plan_text(const PlanReport& report);
/// The JSON object of docs/usage.md, indented.
std::string plan_json(const PlanReport& report);

}  // namespace sluice::model
