#include "model/rates.h"

#include <fmt/core.h>

#include <array>
#include <utility>

#include "model/memory_probe.h"

namespace sluice::model {
namespace {

Rates rates_of(stream::DriveProbe drive, double memory) {
  const double disk = drive.bytes_per_second();
  return {.disk = disk, .memory = memory, .disk_grid = std::move(drive.cells), .age_seconds = {}};
}

}  // namespace

Rates measure_rates(stream::Reader& reader, std::span<const stream::FileInfo> files, std::span<const std::byte> memory,
                    kernels::ThreadTeam& team) {
  stream::DriveProbe drive = stream::probe_drive(reader, files);
  return rates_of(std::move(drive), probe_memory(memory, team));
}

Rates measure_rates(Model& model) {
  stream::DriveProbe drive = model.probe_drive();
  return rates_of(std::move(drive), probe_memory(model.resident_weights(), model.team()));
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
