// Rates that an earlier run measured, so that not every run has to probe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "model/rates.h"

namespace sluice::model {

/// A small JSON file of rates by key. What is in it is not trusted: a file that is damaged, too large or of another
/// version counts as empty, an entry that makes no sense as missing. A file that cannot be written is no error either:
/// the next run measures again.
class RatesCache {
 public:
  using UnixClock = std::function<double()>;  // seconds since 1970

  /// An empty path: nothing is ever found or kept.
  explicit RatesCache(std::filesystem::path file, UnixClock clock = system_seconds);

  /// With their age.
  std::optional<Rates> find(std::string_view key) const;
  /// Keeps rates that were measured now, in place of older ones of the same key; the file is replaced as a whole, and
  /// its directory made if need be. Unknown rates are not kept. Keeps the latest 64 keys.
  void store(std::string_view key, const Rates& rates) const;

  /// Wall-clock seconds since 1970.
  static double system_seconds();

 private:
  std::filesystem::path file_;
  UnixClock clock_;
};

/// What rates depend on and a reboot does not change: the processor, its CPUs and memory; the threads; the device of
/// the files, the engine and whether it reads directly; how large files and weights are, in powers of two, because
/// small ones fit into caches; the shape and format of an expert, what multiplies it, and the instruction set.
std::string rates_key(const ModelPlan& plan, const stream::IoChoice& choice, const kernels::Context& context);

/// "AMD EPYC 7B13" from /proc/cpuinfo; empty if it names none.
std::string_view parse_cpu_name(std::string_view cpuinfo);

/// The cached rates of this model and machine; measured, and kept for the next run, if there are none or `refresh`.
Rates cached_rates(Model& model, const RatesCache& cache, bool refresh);

}  // namespace sluice::model
