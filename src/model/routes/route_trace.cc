#include "model/routes/route_trace.h"

#include <algorithm>
#include <cassert>

namespace sluice::model {

std::span<const std::uint16_t> RouteTrace::ids(std::size_t row) const {
  const auto range = row_range(row);
  return std::span(ids_).subspan(range[0], range[1] - range[0]);
}

std::span<const float> RouteTrace::weights(std::size_t row) const {
  if (weights_.empty()) return {};
  const auto range = row_range(row);
  return std::span(weights_).subspan(range[0], range[1] - range[0]);
}

void RouteTrace::begin_request(std::uint32_t step, int layer, cache::Phase phase) {
  assert(requests_.empty() || step >= requests_.back().step);
  assert(layer >= 0 && layer < kMaxTraceLayers);
  requests_.push_back({.step = step, .layer = layer, .phase = phase, .first_row = row_begin_.size() - 1, .rows = 0});
}

void RouteTrace::add_row(std::span<const std::uint16_t> ids, std::span<const float> weights) {
  assert(!requests_.empty());
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
  assert(weights_.empty() || weights_.size() == ids_.size());
  row_begin_.push_back(ids_.size());
  ++requests_.back().rows;
}

void RouteTrace::complete_header() {
  for (const Request& request : requests_) header.layers = std::max(header.layers, request.layer + 1);
  for (const std::uint16_t id : ids_) header.experts = std::max(header.experts, id + 1);
  for (std::size_t row = 0; row + 1 < row_begin_.size(); ++row) {
    header.top_k = std::max(header.top_k, static_cast<int>(ids(row).size()));
  }
}

cache::RouteLog RouteTrace::log() const {
  cache::RouteLog log(header.layers, header.experts);
  std::vector<cache::ExpertUse> uses;
  for (const Request& request : requests_) {
    uses.clear();
    cache::for_recent_uses(
        request.rows, [&](std::size_t row) { return ids(request.first_row + row); },
        [&](cache::ExpertUse use) { uses.push_back(use); });
    const std::size_t begin = row_begin_[request.first_row];
    const std::size_t end = row_begin_[request.first_row + request.rows];
    log.add(request.layer, request.phase, request.step, std::span(ids_).subspan(begin, end - begin), uses);
  }
  return log;
}

}  // namespace sluice::model
