#include "model/rates.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/memory.h"
#include "base/units.h"
#include "model/memory_probe.h"
#include "model/multiply_probe.h"

namespace sluice::model {
namespace {

/// Beyond every cache of the processors in use.
constexpr std::uint64_t kMostProbedBytes = 256 * kMiB;

Rates rates_of(stream::DriveProbe drive, double memory) {
  const double disk = drive.bytes_per_second();
  const double latency = drive.latency;
  return {.disk = disk,
          .memory = memory,
          .multiply = 0,
          .disk_latency = latency,
          .drive = std::move(drive),
          .age_seconds = {}};
}

double measure_multiply(const ModelPlan& plan, const kernels::Context& context) {
  return plan.experts.empty() ? 0 : probe_multiply(plan.experts.front(), context);
}

}  // namespace

Rates measure_rates(Model& model) {
  stream::DriveProbe drive = model.probe_drive();
  const double memory = probe_memory(model.resident_weights(), model.context().team);
  return rates_of(std::move(drive), memory);
}

Rates measure_prompt_rates(Model& model) {
  Rates rates = measure_rates(model);
  rates.multiply = measure_multiply(model.plan(), model.context());
  return rates;
}

Rates measure_rates(const ModelPlan& plan, stream::Reader& reader, const kernels::Context& context) {
  stream::DriveProbe drive = stream::probe_drive(reader, plan.checkpoint.files());
  const std::uint64_t bytes = std::min(
      {plan.budget.dense_bytes + plan.budget.slot_bytes, kMostProbedBytes, plan.budget_request.available_bytes / 4});
  const Buffer memory = Buffer::allocate(bytes, "memory probe");
  memory.prefault();
  Rates rates = rates_of(std::move(drive), probe_memory(memory.bytes(), context.team));
  rates.multiply = measure_multiply(plan, context);
  return rates;
}

std::string age_text(const Rates& rates) {
  if (!rates.age_seconds) return "";
  constexpr std::array<std::pair<const char*, double>, 3> kUnits{{{"day", 86400}, {"hour", 3600}, {"minute", 60}}};
  for (const auto& [unit, seconds] : kUnits) {
    const auto count = static_cast<long long>(*rates.age_seconds / seconds);
    if (count > 0) return fmt::format("measured {} {}{} ago", count, unit, count == 1 ? "" : "s");
  }
  return "measured less than a minute ago";
}

}  // namespace sluice::model
