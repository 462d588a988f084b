#include "model/routes/route_source.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/routes/guess_noise.h"

namespace sluice::model {
namespace {

class TraceRoutes {
 public:
  TraceRoutes(RouteTrace trace, const std::string& file, const RouteShape& shape, std::uint64_t seed, double recall)
      : trace_(std::move(trace)), experts_(shape.experts), seed_(seed), recall_(recall) {
    rows_.resize(static_cast<std::size_t>(shape.layers));
    next_.resize(rows_.size());
    if (trace_.header.layers != shape.layers || trace_.header.experts > shape.experts) {
      fail("{}: holds {} layers of {} experts, the model has {} of {}", file, trace_.header.layers,
           trace_.header.experts, shape.layers, shape.experts);
    }
    for (const RouteTrace::Request& request : trace_.requests()) {
      for (std::size_t row = request.first_row; row < request.first_row + request.rows; ++row) {
        if (trace_.ids(row).size() != static_cast<std::size_t>(shape.top_k)) {
          fail("{}: a row has {} experts, the model takes {}", file, trace_.ids(row).size(), shape.top_k);
        }
        rows_[static_cast<std::size_t>(request.layer)].push_back(row);
      }
    }
    if (std::any_of(rows_.begin(), rows_.end(), [](const auto& rows) { return rows.empty(); })) {
      fail("{}: some layer has no route", file);
    }
  }

  void route(int layer, std::span<int> ids, std::span<float> weights) {
    const std::size_t row = next_row(layer);
    ++next_[static_cast<std::size_t>(layer)];
    std::copy(trace_.ids(row).begin(), trace_.ids(row).end(), ids.begin());
    const std::span<const float> recorded = trace_.weights(row);
    if (recorded.empty()) {
      std::fill(weights.begin(), weights.end(), 1.0F / static_cast<float>(weights.size()));
    } else {
      std::copy(recorded.begin(), recorded.end(), weights.begin());
    }
  }

  /// A guess at the row that route() is to give next.
  void guess(int layer, std::span<int> ids) const {
    const auto route = trace_.ids(next_row(layer));
    // Its own random numbers for each route, so that a guess depends on nothing but the route.
    const std::uint64_t which = next_[static_cast<std::size_t>(layer)];
    std::seed_seq seeds{seed_, seed_ >> 32, static_cast<std::uint64_t>(layer), which, which >> 32};
    std::mt19937_64 random(seeds);
    std::bernoulli_distribution keep(recall_);
    std::vector<int> others;  // experts that the route has not, in random order
    for (int expert = 0; expert < experts_; ++expert) {
      if (std::find(route.begin(), route.end(), expert) == route.end()) others.push_back(expert);
    }
    std::shuffle(others.begin(), others.end(), random);
    for (std::size_t rank = 0; rank < ids.size(); ++rank) {
      ids[rank] = route[rank];
      if (keep(random) || others.empty()) continue;
      ids[rank] = others.back();
      others.pop_back();
    }
  }

 private:
  std::size_t next_row(int layer) const {
    const std::vector<std::size_t>& rows = rows_[static_cast<std::size_t>(layer)];
    return rows[next_[static_cast<std::size_t>(layer)] % rows.size()];
  }

  RouteTrace trace_;
  int experts_;
  std::uint64_t seed_;
  double recall_;
  std::vector<std::vector<std::size_t>> rows_;  // [layers] of the trace
  std::vector<std::size_t> next_;               // [layers]
};

/// A route and a guess at it.
struct DrawnRow {
  std::vector<int> ids;        // [top_k]
  std::vector<float> weights;  // [top_k]
  std::vector<int> guess;      // [top_k]
};

/// Fills the next row of a layer.
using DrawRow = std::function<void(int layer, DrawnRow& row)>;

/// Routes and guesses at them, drawn before they are asked for or when they are.
class DrawnRoutes {
 public:
  DrawnRoutes(DrawRow draw_row, const RouteShape& shape) : draw_row_(std::move(draw_row)), shape_(shape) {
    rows_.resize(static_cast<std::size_t>(shape.layers));
  }

  void draw(int rows) {
    for (int layer = 0; layer < shape_.layers; ++layer) draw(layer, static_cast<std::size_t>(rows));
  }

  void route(int layer, std::span<int> ids, std::span<float> weights) {
    draw(layer, 1);
    std::deque<DrawnRow>& rows = rows_[static_cast<std::size_t>(layer)];
    std::copy(rows.front().ids.begin(), rows.front().ids.end(), ids.begin());
    std::copy(rows.front().weights.begin(), rows.front().weights.end(), weights.begin());
    rows.pop_front();
  }

  void guess(int layer, int ahead, std::span<int> ids) {
    const auto row = static_cast<std::size_t>(ahead);
    draw(layer, row + 1);
    const std::vector<int>& guess = rows_[static_cast<std::size_t>(layer)][row].guess;
    std::copy(guess.begin(), guess.end(), ids.begin());
  }

 private:
  /// Until there are `count` rows of the layer.
  void draw(int layer, std::size_t count) {
    std::deque<DrawnRow>& rows = rows_[static_cast<std::size_t>(layer)];
    const auto k = static_cast<std::size_t>(shape_.top_k);
    while (rows.size() < count) {
      rows.push_back({std::vector<int>(k), std::vector<float>(k), std::vector<int>(k)});
      draw_row_(layer, rows.back());
    }
  }

  DrawRow draw_row_;
  RouteShape shape_;
  std::vector<std::deque<DrawnRow>> rows_;  // [layers] to come
};

RouteSource drawn(DrawRow draw_row, const RouteShape& shape) {
  const auto routes = std::make_shared<DrawnRoutes>(std::move(draw_row), shape);
  return {
      [routes](int layer, int, std::span<int> ids, std::span<float> weights) { routes->route(layer, ids, weights); },
      [routes](int layer, int row, std::span<int> ids) { routes->guess(layer, row, ids); },
      [routes](int rows) { routes->draw(rows); }};
}

}  // namespace

RouteSource generated_routes(const RoutingProfile& profile, const RouteShape& shape, std::uint64_t seed,
                             double recall) {
  const auto generator = std::make_shared<RouteGenerator>(profile, shape.layers, shape.experts, shape.top_k, seed);
  const float noise = guess_noise(*generator, recall);
  const auto next = [generator, noise](int layer, DrawnRow& row) {
    generator->guess(layer, noise, row.guess);
    generator->route(layer, row.ids, row.weights);
  };
  return drawn(next, shape);
}

RouteSource recorded_routes(RouteTrace trace, const std::string& file, const RouteShape& shape, std::uint64_t seed,
                            double recall) {
  const auto routes = std::make_shared<TraceRoutes>(std::move(trace), file, shape, seed, recall);
  const auto next = [routes](int layer, DrawnRow& row) {
    routes->guess(layer, row.guess);
    routes->route(layer, row.ids, row.weights);
  };
  return drawn(next, shape);
}

RouteSource counted(RouteSource source, const RouteShape& shape, GuessCounts& counts) {
  using Guesses = std::vector<std::deque<std::vector<int>>>;  // [layers] of the routes to come; empty: not guessed
  const auto guesses = std::make_shared<Guesses>(static_cast<std::size_t>(shape.layers));
  auto route = [guesses, &counts, inner = std::move(source.route)](int layer, int row, std::span<int> ids,
                                                                   std::span<float> weights) {
    inner(layer, row, ids, weights);
    auto& waiting = (*guesses)[static_cast<std::size_t>(layer)];
    if (waiting.empty()) return;
    const std::vector<int> guess = std::move(waiting.front());
    waiting.pop_front();
    if (guess.empty()) return;
    counts.chosen += ids.size();
    for (const int id : ids) counts.found += std::count(guess.begin(), guess.end(), id) > 0 ? 1 : 0;
  };
  auto guess = [guesses, inner = std::move(source.guess)](int layer, int row, std::span<int> ids) {
    inner(layer, row, ids);
    auto& waiting = (*guesses)[static_cast<std::size_t>(layer)];
    const auto ahead = static_cast<std::size_t>(row);
    if (waiting.size() <= ahead) waiting.resize(ahead + 1);
    waiting[ahead].assign(ids.begin(), ids.end());
  };
  return {std::move(route), std::move(guess), std::move(source.draw)};
}

}  // namespace sluice::model
