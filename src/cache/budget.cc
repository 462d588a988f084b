#include "cache/budget.h"

#include <algorithm>
#include <cassert>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/memory.h"

namespace sluice::cache {
namespace {

/// The plan with these slots and this chunk, fitting or not.
Budget itemise(const BudgetRequest& request, int slots, int chunk_tokens) {
  Budget budget;
  budget.slots_per_layer = slots;
  budget.chunk_tokens = chunk_tokens;
  budget.dense_bytes = request.dense_bytes;
  std::set<std::uint64_t> sizes;
  for (const BudgetRequest::Layer& layer : request.layers) {
    budget.slot_bytes += static_cast<std::uint64_t>(std::min(slots, layer.experts)) * layer.slot_bytes;
    sizes.insert(layer.slot_bytes);
  }
  budget.staging_slots = request.staging_slots;
  for (const std::uint64_t size : sizes)
    budget.staging_bytes += static_cast<std::uint64_t>(request.staging_slots) * size;
  budget.kv_bytes = request.kv_bytes;
  budget.recurrent_bytes = request.recurrent_bytes;
  budget.scratch_bytes =
      request.scratch_fixed_bytes + static_cast<std::uint64_t>(chunk_tokens) * request.scratch_bytes_per_token;
  return budget;
}

int most_experts(const BudgetRequest& request) {
  int most = 0;
  for (const BudgetRequest::Layer& layer : request.layers) most = std::max(most, layer.experts);
  return most;
}

/// The largest chunk that fits beside `slots`, at most the wanted one; 0 if not even one token does.
int largest_chunk(const BudgetRequest& request, int slots, std::uint64_t limit) {
  const std::uint64_t rest = itemise(request, slots, 0).total_bytes();
  if (rest > limit) return 0;
  if (request.scratch_bytes_per_token == 0) return request.wanted_chunk_tokens;
  const std::uint64_t tokens = (limit - rest) / request.scratch_bytes_per_token;
  return static_cast<int>(std::min<std::uint64_t>(tokens, static_cast<std::uint64_t>(request.wanted_chunk_tokens)));
}

/// The most slots that fit beside the wanted chunk: all experts, or whole working sets. The floor if none do.
int largest_slots(const BudgetRequest& request, int floor, int most, std::uint64_t limit) {
  const auto fits = [&](int slots) {
    return itemise(request, slots, request.wanted_chunk_tokens).total_bytes() <= limit;
  };
  if (most <= floor || fits(most)) return most;
  int slots = (most - 1) / floor * floor;
  while (slots > floor && !fits(slots)) slots -= floor;
  return slots;
}

/// What is left to the rest of the machine when nobody says how much memory to use.
std::uint64_t reserve(std::uint64_t available) { return std::min(std::max(kGiB, available / 10), available / 2); }

/// Reports that `least`, the smallest plan for this request, is over its limit.
[[noreturn]] void fail_not_enough(const BudgetRequest& request, const Budget& least, const std::string& origin) {
  // Rounded up, so that who types it as --memory is let through.
  const std::string needed = fmt::format("{}MiB", round_up(least.total_bytes(), kMiB) / kMiB);
  if (request.memory_limit) {
    fail("--memory {}: the model needs at least {}{}; give that, or a smaller --ctx-size\n{}",
         format_bytes(*request.memory_limit), needed,
         request.cache_slots ? fmt::format(" with {} slots per layer", least.slots_per_layer) : "", least.table());
  }
  fail("memory: the model needs at least {}, more than {}; use a smaller --ctx-size\n{}", needed, origin,
       least.table());
}

}  // namespace

std::uint64_t Budget::total_bytes() const {
  return dense_bytes + slot_bytes + staging_bytes + kv_bytes + recurrent_bytes + scratch_bytes + overhead_bytes;
}

std::string Budget::table() const {
  std::string text;
  const auto add = [&text](std::string_view item, std::uint64_t bytes, std::string_view detail) {
    text += fmt::format("{}  {:<16}{:>10}{}{}", text.empty() ? "" : "\n", item, format_bytes(bytes),
                        detail.empty() ? "" : "  ", detail);
  };
  add("dense weights", dense_bytes, "");
  add("expert slots", slot_bytes, fmt::format("{} per layer", slots_per_layer));
  add("staging", staging_bytes, "");
  add("KV cache", kv_bytes, "full context");
  add("recurrent state", recurrent_bytes, "");
  add("prefill scratch", scratch_bytes, fmt::format("chunk of {}", chunk_tokens));
  add("program", overhead_bytes, "");
  add("total", total_bytes(), "");
  return text;
}

Budget plan_budget(BudgetRequest request) {
  assert(request.wanted_chunk_tokens >= 1);
  const int most = most_experts(request);
  assert(most == 0 || request.top_k >= 1);
  const int floor = std::min(request.top_k, most);
  const bool slots_given = request.cache_slots.has_value();
  const int slots_asked = request.cache_slots.value_or(most);
  if (slots_asked < floor) {
    fail("--cache-slots {}: a token uses {} experts of a layer at once, and all of them need a slot; give at least {}",
         slots_asked, floor, floor);
  }

  std::optional<std::uint64_t> limit = request.memory_limit;
  std::string origin = slots_given ? (limit ? "--cache-slots, within --memory" : "--cache-slots") : "--memory";
  if (!slots_given && !limit) {
    limit = request.available_bytes - reserve(request.available_bytes);
    origin = fmt::format("{} of {} available memory", format_bytes(*limit), format_bytes(request.available_bytes));
  }

  BudgetRequest unstaged = request;
  unstaged.staging_slots = 0;
  const bool all_fit = slots_asked >= most && (!limit || largest_slots(unstaged, floor, most, *limit) == most);
  const int least_slots = slots_given ? std::min(slots_asked, most) : floor;
  if (all_fit || (limit && itemise(request, least_slots, 1).total_bytes() > *limit)) request.staging_slots = 0;

  // More than what is available would be paged in and out, or end the process, at many times the cost of a miss: what
  // was asked for is an upper limit. Only the floor is tried all the same.
  const bool memory_lowered = request.hold_to_available && !slots_given && request.memory_limit &&
                              *limit > request.available_bytes &&
                              itemise(request, floor, 1).total_bytes() <= request.available_bytes;
  if (memory_lowered) limit = request.available_bytes;
  const int slots_most = std::min(slots_asked, most);
  const int slots_fitting = slots_given ? largest_slots(request, floor, slots_most, request.available_bytes)
                                        : largest_slots(request, floor, most, *limit);
  const int slots = slots_given && (limit || !request.hold_to_available) ? slots_most : slots_fitting;
  const int chunk = limit ? largest_chunk(request, slots, *limit) : request.wanted_chunk_tokens;
  if (chunk == 0) fail_not_enough(request, itemise(request, slots, 1), origin);

  Budget budget = itemise(request, slots, chunk);
  budget.limit_bytes = limit;
  budget.origin = std::move(origin);
  if (slots_given && slots < slots_asked) {
    const std::string reason = most == 0             ? "the model has no routed experts"
                               : slots == slots_most ? "a layer has no more experts"
                                                     : fmt::format("with more than the {} available the machine pages",
                                                                   format_bytes(request.available_bytes));
    budget.notices.push_back(fmt::format("requested --cache-slots {}, got {} because {}", slots_asked, slots, reason));
  }
  if (memory_lowered) {
    budget.notices.push_back(fmt::format("requested --memory {}, got {} because no more is available",
                                         format_bytes(*request.memory_limit), format_bytes(*limit)));
  }
  if (chunk < request.wanted_chunk_tokens) {
    budget.notices.push_back(
        fmt::format("requested a prefill chunk of {} tokens, got {} because no more fit into memory",
                    request.wanted_chunk_tokens, chunk));
  }
  const bool asked_for = slots_given || request.memory_limit;
  if (asked_for && budget.total_bytes() > request.available_bytes) {
    const std::string asked = slots_given ? fmt::format("--cache-slots {}", slots_asked)
                                          : fmt::format("--memory {}", format_bytes(*request.memory_limit));
    budget.notices.push_back(
        fmt::format("{}: {} in all, but {} are available: if memory runs short, slots are given back", asked,
                    format_bytes(budget.total_bytes()), format_bytes(request.available_bytes)));
  }
  return budget;
}

}  // namespace sluice::cache
