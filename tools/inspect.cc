// sluice inspect: what is in a checkpoint and what it will need. Reads config.json and headers only.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/error.h"
#include "base/units.h"
#include "find_model.h"
#include "model/plan.h"
#include "verbs.h"

namespace sluice::tools {
namespace {

struct InspectOptions {
  std::optional<std::string> model;
  FlagValues settings;
};

std::set<std::string> expert_formats(const model::ModelPlan& plan) {
  std::set<std::string> formats;
  for (const model::ExpertLayout& layout : plan.experts) {
    for (const model::ExpertProjection* part : {&layout.gate, &layout.up, &layout.down}) {
      if (part->rows > 0) formats.insert(kernels::to_string(part->format));
    }
  }
  return formats;
}

std::string experts_text(const model::ModelPlan& plan) {
  int count = 0;
  for (const model::ExpertLayout& layout : plan.experts) count += layout.records.experts;
  std::uint64_t largest = 0;
  for (const model::ExpertLayout& layout : plan.experts) largest = std::max(largest, layout.expert_bytes());
  return fmt::format(
      "experts    {} of {}: {} per layer in {} layers, {} per token\n"
      "           {} on disk, {} touched per token; {}\n",
      count, format_bytes(largest), plan.expert_count(), plan.experts.size(), plan.top_k,
      format_bytes(plan.expert_bytes()), format_bytes(plan.token_expert_bytes()),
      fmt::join(expert_formats(plan), ", "));
}

/// What the process takes at a number of slots, whatever this machine has.
std::uint64_t bytes_with_slots(const ModelChoice& choice, model::RuntimeSettings settings, int slots) {
  settings.memory.reset();
  settings.cache_slots = slots;
  settings.io.clear();  // mmap has none
  return model::ModelPlan(choice.directory, settings).budget.total_bytes();
}

std::string memory_table(const ModelChoice& choice, const model::RuntimeSettings& settings,
                         const model::ModelPlan& plan) {
  const int floor = plan.top_k;
  const int all = plan.expert_count();
  std::string text = "\nslots per layer   experts in memory      memory\n";
  const auto row = [&](std::string_view name, int slots) {
    text += fmt::format("{:<18}{:15.0f} %  {:>10}\n", fmt::format("{} ({})", slots, name), 100.0 * slots / all,
                        format_bytes(bytes_with_slots(choice, settings, slots)));
  };
  row("floor", floor);
  if (floor < all / 2) row("half", all / 2);
  if (floor < all) row("all", all);
  return text +
         fmt::format("{} of each are set aside for the program itself\n", format_bytes(cache::kFixedOverheadBytes));
}

/// What a run with these settings would do here, or why it would not.
std::string here_text(const ModelChoice& choice, const model::RuntimeSettings& settings) {
  try {
    const model::ModelPlan plan(choice.directory, settings, true);
    if (plan.experts.empty() || plan.mapped) {
      return fmt::format("here       {}\n", format_bytes(plan.budget.total_bytes()));
    }
    return fmt::format("here       {} slots per layer, {} ({})\n", plan.budget.slots_per_layer,
                       format_bytes(plan.budget.total_bytes()), plan.budget.origin);
  } catch (const Error& error) {
    return fmt::format("here       it does not run: {}\n", error.what());
  }
}

int inspect(const InspectOptions& options, const Environment& environment) {
  refuse_output_of_a_run(options.settings, "inspect");
  const Settings settings = resolve_settings(options.settings, environment);
  const ModelChoice choice = find_model(options.model, environment, program_path());
  const model::ModelPlan plan(choice.directory, model::all_resident(settings.runtime));
  const std::uint64_t kv_bytes = plan.session.bytes(plan.context);

  std::string text = fmt::format("{}\n", choice.directory.string());
  text +=
      fmt::format("model      {}: {} layers, hidden {}, vocabulary {}, made for {} positions\n", plan.spec.model_type,
                  plan.spec.layers, plan.spec.hidden, plan.spec.vocabulary, plan.spec.max_context);
  text += fmt::format("files      {} with {} tensors, {}\n", plan.checkpoint.files().size(),
                      plan.checkpoint.tensors().size(), format_bytes(plan.checkpoint.tensor_bytes()));
  text += fmt::format("dense      {}, always in memory; {}\n", format_bytes(plan.dense.weight_bytes()),
                      fmt::join(plan.dense.formats(), ", "));
  if (!plan.experts.empty()) text += experts_text(plan);
  text += fmt::format("context    {} positions: {} of keys and values in {}, {} each\n", plan.context,
                      format_bytes(kv_bytes),
                      plan.cache_type == DType::i8 ? "q8" : kernels::to_string(kernels::plain_format(plan.cache_type)),
                      format_bytes(kv_bytes / static_cast<std::uint64_t>(plan.context)));
  text += here_text(choice, settings.runtime);
  if (!plan.experts.empty()) text += memory_table(choice, settings.runtime, plan);
  fmt::print("{}", text);
  return 0;
}

}  // namespace

Action declare_inspect(std::vector<Flag>& flags) {
  const auto options = std::make_shared<InspectOptions>();
  add_model(flags, options->model);
  add_settings(flags, options->settings);
  return [options](const Environment& environment) { return inspect(*options, environment); };
}

}  // namespace sluice::tools
