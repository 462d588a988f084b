#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>
#include <vector>

#include "base/cgroup.h"
#include "kernels/thread_team.h"

namespace sluice::kernels {
namespace {

int cpus_in_affinity_mask() {
  // The kernel refuses a mask smaller than its own, which may be larger than cpu_set_t on big machines.
  for (std::size_t sets = 1; sets <= 64; sets *= 2) {
    std::vector<cpu_set_t> mask(sets);
    const std::size_t bytes = sets * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) return CPU_COUNT_S(bytes, mask.data());
    if (errno != EINVAL) break;
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

int available_cpus() {
  const int cpus = cpus_in_affinity_mask();
  const std::optional<double> quota = cgroup_cpu_quota();
  return std::max(1, quota ? std::min(cpus, static_cast<int>(std::min(*quota, 1e6))) : cpus);
}

}  // namespace sluice::kernels
