// sluice pack: a copy of a checkpoint in which each expert is one contiguous record.
#include "model/pack.h"

#include <fmt/core.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "find_model.h"
#include "interrupt.h"
#include "model/plan.h"
#include "progress.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

// Each waits for one transfer at a time; a drive that reads and writes at once is busy with a few.
constexpr int kDefaultThreads = 4;
constexpr int kMaxThreads = 64;

struct PackVerb {
  std::string source;
  std::filesystem::path destination;
  int threads = kDefaultThreads;
  bool quiet = false;
};

int run_pack(const PackVerb& verb, const Environment& environment) {
  const ModelChoice choice = find_model(verb.source, environment, program_path());
  const model::ModelPlan model(choice.directory, model::all_resident());
  const model::PackPlan plan = model::plan_packing(model.checkpoint, model.experts);
  const InterruptGuard interrupt;
  Progress progress = progress_on_stderr("packing", verb.quiet, environment);
  std::uint64_t bytes = 0;
  const bool written = model::write_packed(plan, model.checkpoint, verb.destination, verb.threads,
                                           [&](std::uint64_t done, std::uint64_t total) {
                                             bytes = total;
                                             progress.update(done, total);
                                             return !interrupt.requested();
                                           });
  if (!written) return interrupt.exit_code();
  progress.finish();
  fmt::print("{}: {} experts of {} in {} layers, each one record instead of {} slices, {} tensors in {} files, {}\n",
             verb.destination.string(), plan.experts, model.spec.model_type, plan.layers, plan.ranges,
             plan.tensor_count(), plan.shards.size(), format_bytes(bytes));
  return 0;
}

}  // namespace

Action declare_pack(std::vector<Flag>& flags) {
  const auto verb = std::make_shared<PackVerb>();
  flags.push_back({"SRC", "", "Input", "the model: directory, or org/name in the Hugging Face cache",
                   [verb](const Given& given) { verb->source = given.text; }, true});
  flags.push_back({"DST", "", "Output", "the directory to write; must not exist, or be empty",
                   [verb](const Given& given) { verb->destination = parse_path(given); }, true});
  flags.push_back({"-t,--threads", "N", "Output", "threads that read and write (default: 4)",
                   [verb](const Given& given) { verb->threads = parse_int(given, 1, kMaxThreads); }});
  flags.push_back(
      {"--quiet", "", "Output", "show no progress", [verb](const Given& given) { verb->quiet = parse_switch(given); }});
  return [verb](const Environment& environment) { return run_pack(*verb, environment); };
}

}  // namespace sluice::tools
