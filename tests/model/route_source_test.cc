// Routes that replace a model's: guesses are as good as asked for, change no route, and are counted.
#include "model/routes/route_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "base/error.h"

namespace sluice::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr RouteShape kShape{.layers = 2, .experts = 16, .top_k = 3};

/// Five tokens of two layers; token t has the experts t, t + 5, t + 10 in layer 0, and in layer 1 the next ones.
RouteTrace example() {
  RouteTrace trace;
  for (std::uint32_t token = 0; token < 5; ++token) {
    for (int layer = 0; layer < 2; ++layer) {
      trace.begin_request(token, layer, cache::Phase::decode);
      const auto first = static_cast<std::uint16_t>(token + static_cast<std::uint32_t>(layer));
      const std::uint16_t ids[] = {first, static_cast<std::uint16_t>(first + 5),
                                   static_cast<std::uint16_t>(first + 10)};
      const float weights[] = {0.5F, 0.25F, 0.25F};
      trace.add_row(ids, weights);
    }
  }
  trace.complete_header();
  return trace;
}

struct Drawn {
  std::vector<int> ids = std::vector<int>(3);
  std::vector<float> weights = std::vector<float>(3);
};

Drawn next(const RouteSource& source, int layer) {
  Drawn drawn;
  source.route(layer, 0, drawn.ids, drawn.weights);
  return drawn;
}

std::vector<int> guess(const RouteSource& source, int layer, int row = 0) {
  std::vector<int> ids(3);
  source.guess(layer, row, ids);
  return ids;
}

TEST(RecordedRoutes, ComeRowByRowAndThenAgain) {
  const RouteSource source = recorded_routes(example(), "file", kShape, 1, 1);
  for (int token = 0; token < 12; ++token) {
    const Drawn drawn = next(source, 1);
    EXPECT_THAT(drawn.ids, ElementsAre(token % 5 + 1, token % 5 + 6, token % 5 + 11));
    EXPECT_THAT(drawn.weights, ElementsAre(0.5F, 0.25F, 0.25F));
  }
  EXPECT_THAT(next(source, 0).ids, ElementsAre(0, 5, 10));
}

TEST(RecordedRoutes, ThatDoNotFitTheModelAreRefused) {
  const auto with = [](RouteShape shape) { return [shape] { recorded_routes(example(), "file", shape, 1, 1); }; };
  EXPECT_THAT(with({3, 16, 3}), ThrowsMessage<Error>(HasSubstr("file: holds 2 layers of 16 experts")));
  EXPECT_THAT(with({2, 8, 3}), ThrowsMessage<Error>(HasSubstr("the model has 2 of 8")));
  EXPECT_THAT(with({2, 16, 4}), ThrowsMessage<Error>(HasSubstr("a row has 3 experts, the model takes 4")));
}

TEST(RecordedRoutes, AGuessKeepsOrderAndReplacesWhatItHasNotFound) {
  const RouteSource source = recorded_routes(example(), "file", kShape, 1, 0.5);
  int kept = 0;
  for (int token = 0; token < 400; ++token) {
    const std::vector<int> guessed = guess(source, 0);
    EXPECT_EQ(guess(source, 0), guessed) << "the same route, the same guess";
    const std::vector<int> ids = next(source, 0).ids;
    EXPECT_EQ(std::set<int>(guessed.begin(), guessed.end()).size(), 3U);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      const bool found = guessed[rank] == ids[rank];
      kept += found ? 1 : 0;
      EXPECT_TRUE(found || std::count(ids.begin(), ids.end(), guessed[rank]) == 0)
          << "an expert of the route elsewhere";
      EXPECT_LT(guessed[rank], kShape.experts);
    }
  }
  EXPECT_NEAR(kept / 1200.0, 0.5, 0.06);  // four standard errors
}

TEST(RecordedRoutes, NothingElseToGuessIsNoFailure) {
  RouteTrace trace;
  trace.begin_request(0, 0, cache::Phase::decode);
  trace.add_row(std::vector<std::uint16_t>{0, 1, 2}, {});
  trace.complete_header();
  const RouteSource source = recorded_routes(trace, "file", {1, 4, 3}, 1, 0);
  std::vector<int> guessed = guess(source, 0);
  std::sort(guessed.begin(), guessed.end());
  EXPECT_EQ(std::set<int>(guessed.begin(), guessed.end()).size(), 3U);
  EXPECT_THAT(next(source, 0).weights, ElementsAre(1.0F / 3, 1.0F / 3, 1.0F / 3)) << "a trace without weights";
}

/// Routes of `tokens` tokens, all of them guessed in passes of `rows`.
GuessCounts count(RouteSource source, int tokens, int rows) {
  GuessCounts counts;
  const RouteSource watched = counted(std::move(source), kShape, counts);
  for (int token = 0; token < tokens; token += rows) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      for (int row = 0; row < rows; ++row) guess(watched, layer, row);
      for (int row = 0; row < rows; ++row) next(watched, layer);
    }
  }
  return counts;
}

TEST(DrawnRoutes, AreThoseDrawnWhenAskedFor) {
  const auto make = [] { return generated_routes(routing_profile("olmoe", "gen"), kShape, 5, 0.7); };
  const RouteSource ahead = make();
  const RouteSource late = make();
  for (int token = 0; token < 12; ++token) {
    if (token % 5 == 0) ahead.draw(3);
    for (int layer = kShape.layers - 1; layer >= 0; --layer) {
      EXPECT_EQ(guess(ahead, layer, 1), guess(late, layer, 1));
      const Drawn one = next(ahead, layer);
      const Drawn other = next(late, layer);
      EXPECT_EQ(one.ids, other.ids);
      EXPECT_EQ(one.weights, other.weights);
    }
  }
}

TEST(CountedRoutes, ReachTheRecallThatWasAskedFor) {
  const RoutingProfile& profile = routing_profile("olmoe", "gen");
  for (const double recall : {0.6, 0.8, 1.0}) {
    for (const RouteSource& source :
         {generated_routes(profile, kShape, 5, recall), recorded_routes(example(), "file", kShape, 5, recall)}) {
      const GuessCounts counts = count(source, 900, 3);
      EXPECT_EQ(counts.chosen, 900U * 2 * 3);
      EXPECT_NEAR(static_cast<double>(counts.found) / static_cast<double>(counts.chosen), recall, 0.04);
    }
  }
}

TEST(CountedRoutes, CountOnlyRoutesThatHadBeenGuessed) {
  GuessCounts counts;
  const RouteSource source = counted(recorded_routes(example(), "file", kShape, 1, 1), kShape, counts);
  next(source, 0);
  EXPECT_EQ(counts.chosen, 0U);
  EXPECT_THAT(guess(source, 0), ElementsAre(1, 6, 11));
  next(source, 1);
  EXPECT_EQ(counts.chosen, 0U) << "of the other layer";
  EXPECT_THAT(next(source, 0).ids, ElementsAre(1, 6, 11)) << "a guess takes nothing away";
  next(source, 0);
  EXPECT_EQ(counts.chosen, 3U);
  EXPECT_EQ(counts.found, 3U);
}

}  // namespace
}  // namespace sluice::model
