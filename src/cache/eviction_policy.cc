#include "cache/eviction_policy.h"

#include <array>
#include <string>

#include "base/error.h"
#include "cache/eviction_policies.h"

namespace sluice::cache {
namespace {

constexpr std::array kPolicies = {
    PolicyEntry{"decay", make_decayed_frequency},
    PolicyEntry{"lru", make_lru},
};

}  // namespace

std::span<const PolicyEntry> eviction_policies() { return kPolicies; }

const PolicyEntry& eviction_policy(std::string_view name) {
  std::string known;
  for (const PolicyEntry& entry : kPolicies) {
    if (entry.name == name) return entry;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  fail_usage("--policy {}: no such eviction policy; known are {}", name, known);
}

}  // namespace sluice::cache
