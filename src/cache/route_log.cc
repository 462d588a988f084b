#include "cache/route_log.h"

#include <algorithm>
#include <cassert>

namespace sluice::cache {

RouteLog::Request RouteLog::operator[](std::size_t index) const {
  const Entry& entry = entries_[index];
  const bool last = index + 1 == entries_.size();
  const std::size_t end = last ? ids_.size() : entries_[index + 1].first_id;
  const std::size_t uses_end = last ? uses_.size() : entries_[index + 1].first_use;
  return {.layer = entry.layer,
          .phase = entry.phase,
          .step = entry.step,
          .ids = std::span(ids_).subspan(entry.first_id, end - entry.first_id),
          .uses = std::span(uses_).subspan(entry.first_use, uses_end - entry.first_use)};
}

void RouteLog::add(int layer, Phase phase, std::uint64_t step, std::span<const std::uint16_t> ids,
                   std::span<const ExpertUse> uses) {
  assert(layer >= 0 && layer < layers_);
  assert(entries_.empty() || step >= entries_.back().step);
  const std::size_t first = ids_.size();
  entries_.push_back({first, uses_.size(), static_cast<std::uint32_t>(step), static_cast<std::uint16_t>(layer), phase});
  uses_.insert(uses_.end(), uses.begin(), uses.end());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  const auto begin = ids_.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, ids_.end());
  ids_.erase(std::unique(begin, ids_.end()), ids_.end());
  assert(ids_.size() == first || ids_.back() < experts_);
}

void RouteLog::drop_front(std::size_t count) {
  const std::size_t ids = count < entries_.size() ? entries_[count].first_id : ids_.size();
  const std::size_t uses = count < entries_.size() ? entries_[count].first_use : uses_.size();
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(count));
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(ids));
  uses_.erase(uses_.begin(), uses_.begin() + static_cast<std::ptrdiff_t>(uses));
  for (Entry& entry : entries_) {
    entry.first_id -= ids;
    entry.first_use -= uses;
  }
}

}  // namespace sluice::cache
