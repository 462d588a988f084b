// sluice synth: a checkpoint of a real model's shape with random weights.
#include <fmt/core.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "interrupt.h"
#include "kernels/thread_team.h"
#include "model/synth/checkpoint_plan.h"
#include "model/synth/write_synthetic.h"
#include "progress.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

namespace synth = model::synth;

constexpr std::array<std::string_view, 4> kModes{"affine", "mxfp4", "nvfp4", "mxfp8"};
constexpr std::array<kernels::Mode, 4> kModeValues{kernels::Mode::affine, kernels::Mode::mxfp4, kernels::Mode::nvfp4,
                                                   kernels::Mode::mxfp8};
constexpr int kMaxLayers = 4096;
constexpr int kMaxGroup = 1024;
constexpr int kMaxThreads = 1024;

struct SynthVerb {
  synth::SynthOptions checkpoint;
  std::filesystem::path destination;
  int threads = 0;  // 0: all CPUs
  bool quiet = false;
};

int run_synth(const SynthVerb& verb, const Environment& environment) {
  const synth::CheckpointPlan plan = synth::plan_checkpoint(verb.checkpoint);
  const InterruptGuard interrupt;
  Progress progress = progress_on_stderr("writing", verb.quiet, environment);
  const int threads = verb.threads > 0 ? verb.threads : kernels::available_cpus() + 1;
  const bool written =
      synth::write_synthetic(plan, verb.destination, threads, [&](std::uint64_t done, std::uint64_t total) {
        progress.update(done, total);
        return !interrupt.requested();
      });
  if (!written) return interrupt.exit_code();
  progress.finish();
  fmt::print("{}: {} with {} layers, {} tensors in {} files, {}\n", verb.destination.string(), verb.checkpoint.like,
             plan.layers, plan.tensor_count(), plan.files.size(), format_bytes(plan.bytes()));
  return 0;
}

}  // namespace

Action declare_synth(std::vector<Flag>& flags) {
  const auto verb = std::make_shared<SynthVerb>();
  flags.push_back({"--like", "NAME", "Model", "the model whose shape it has; an unknown name lists them",
                   [verb](const Given& given) { verb->checkpoint.like = given.text; }, true});
  flags.push_back({"--layers", "N", "Model", "keep N layers, at least one of every kind (default: all)",
                   [verb](const Given& given) { verb->checkpoint.layers = parse_int(given, 1, kMaxLayers); }});
  flags.push_back({"--seed", "N", "Model", "the same seed gives the same bytes (default: 0)",
                   [verb](const Given& given) { verb->checkpoint.seed = parse_seed(given); }});
  flags.push_back({"--mode", "affine|mxfp4|nvfp4|mxfp8", "Quantization",
                   "how weights are quantized (default: as published, or affine with the next two)",
                   [verb](const Given& given) { verb->checkpoint.mode = kModeValues[parse_choice(given, kModes)]; }});
  flags.push_back({"--bits", "N", "Quantization", "bits of a weight (default: 4; 8 with mxfp8)",
                   [verb](const Given& given) { verb->checkpoint.bits = parse_int(given, 1, 8); }});
  flags.push_back({"--group-size", "N", "Quantization",
                   "weights that share a scale (default: 64; 32 with mxfp4 and mxfp8, 16 with nvfp4)",
                   [verb](const Given& given) { verb->checkpoint.group_size = parse_int(given, 1, kMaxGroup); }});
  flags.push_back({"DST", "", "Output", "the directory to write; must not exist, or be empty",
                   [verb](const Given& given) { verb->destination = parse_path(given); }, true});
  flags.push_back({"-t,--threads", "N", "Output", "threads that make and write weights (default: one more than CPUs)",
                   [verb](const Given& given) { verb->threads = parse_int(given, 1, kMaxThreads); }});
  flags.push_back(
      {"--quiet", "", "Output", "show no progress", [verb](const Given& given) { verb->quiet = parse_switch(given); }});
  return [verb](const Environment& environment) { return run_synth(*verb, environment); };
}

}  // namespace sluice::tools
