#include "model/routes/route_recorder.h"

#include <utility>

namespace sluice::model {
namespace {

TraceHeader header_of(const ModelInfo& info) {
  const auto experts_touched = static_cast<std::uint64_t>(info.moe_layers) * static_cast<std::uint64_t>(info.top_k);
  return {.model = (info.directory / "").parent_path().filename().string(),
          .layers = info.moe_layers,
          .experts = info.experts,
          .top_k = info.top_k,
          .expert_bytes = experts_touched > 0 ? info.token_expert_bytes / experts_touched : 0,
          .dense_bytes = info.token_dense_bytes};
}

}  // namespace

RouteRecorder::RouteRecorder(Model& model, const std::filesystem::path& trace)
    : model_(model), history_(model.info().moe_layers, model.info().experts) {
  if (model.info().moe_layers == 0) return;  // nothing will ever be routed
  if (!trace.empty()) writer_.emplace(trace, header_of(model.info()));
  model.observe_routes([this](cache::Phase phase, int layer, int row, std::span<const int> ids,
                              std::span<const float> weights) { add_row(phase, layer, row, ids, weights); });
}

RouteRecorder::~RouteRecorder() {
  model_.observe_routes({});
  finish_request();
}

cache::RouteHistory& RouteRecorder::history() {
  finish_request();
  if (writer_) writer_->flush();
  return history_;
}

void RouteRecorder::add_row(cache::Phase phase, int layer, int row, std::span<const int> ids,
                            std::span<const float> weights) {
  if (row == 0) {
    finish_request();
    // A layer that comes again begins the next pass.
    if (request_.rows > 0 && layer <= request_.layer) ++request_.step;
    request_.layer = layer;
    request_.phase = phase;
    request_.rows = 0;
    top_k_ = ids.size();
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
  ++request_.rows;
}

void RouteRecorder::finish_request() {
  if (ids_.empty()) return;
  uses_.clear();
  const auto row_ids = [&](std::size_t row) { return std::span(ids_).subspan(row * top_k_, top_k_); };
  cache::for_recent_uses(request_.rows, row_ids, [&](cache::ExpertUse use) { uses_.push_back(use); });
  history_.add(request_.layer, request_.phase, request_.step, ids_, uses_);
  for (std::size_t row = 0; writer_ && row < request_.rows; ++row) {
    writer_->add(request_, row_ids(row), std::span(weights_).subspan(row * top_k_, top_k_));
  }
  ids_.clear();
  weights_.clear();
}

}  // namespace sluice::model
