// The router beside a naive one in double precision, for every scoring, grouping and tie rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "kernels/isa.h"
#include "model/layers/layers.h"

namespace sluice::model {
namespace {

using kernels::TieRule;

using Route = std::map<int, float>;  // expert -> weight

struct Case {
  RouterSpec spec;
  int experts = 8;
  int top_k = 2;
  std::vector<float> correction, expert_scale;
};

std::vector<Route> routed(const Case& c, std::vector<float> logits, kernels::ThreadTeam& team) {
  kernels::Workspace workspace;
  const std::size_t rows = logits.size() / static_cast<std::size_t>(c.experts);
  std::vector<int> ids(rows * static_cast<std::size_t>(c.top_k));
  std::vector<float> weights(ids.size());
  route({kernels::all_isas()[0], team}, c.spec, c.experts, c.top_k, c.correction, c.expert_scale, logits, ids, weights,
        workspace);
  std::vector<Route> routes(rows);
  for (std::size_t i = 0; i < ids.size(); ++i) routes[i / static_cast<std::size_t>(c.top_k)][ids[i]] = weights[i];
  return routes;
}

std::vector<Route> routed(const Case& c, std::vector<float> logits) {
  kernels::ThreadTeam team(1);
  return routed(c, std::move(logits), team);
}

/// The `k` largest, sorted; on equal values the index that the rule prefers comes first.
std::vector<int> naive_top(const std::vector<double>& values, std::size_t k, TieRule ties) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const double x = values[static_cast<std::size_t>(a)];
    const double y = values[static_cast<std::size_t>(b)];
    if (x != y) return x > y;
    return ties == TieRule::lower_index ? a < b : a > b;
  });
  order.resize(k);
  return order;
}

std::vector<double> softmax(const std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  std::vector<double> result;
  double sum = 0;
  for (const double value : x) sum += std::exp(value - largest);
  for (const double value : x) result.push_back(std::exp(value - largest) / sum);
  return result;
}

Route naive_route(const Case& c, const float* logits) {
  std::vector<double> scores(logits, logits + c.experts);
  if (c.spec.scoring == RouterScoring::softmax) scores = softmax(scores);
  if (c.spec.scoring == RouterScoring::sigmoid) {
    for (double& score : scores) score = 1 / (1 + std::exp(-score));
  }
  std::vector<double> choice = scores;
  for (std::size_t e = 0; e < c.correction.size(); ++e) choice[e] += static_cast<double>(c.correction[e]);
  if (c.spec.groups > 1) {
    const auto size = choice.size() / static_cast<std::size_t>(c.spec.groups);
    std::vector<double> of_group;
    for (std::size_t g = 0; g < static_cast<std::size_t>(c.spec.groups); ++g) {
      std::vector<double> members(choice.begin() + static_cast<std::ptrdiff_t>(g * size),
                                  choice.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::sort(members.rbegin(), members.rend());
      of_group.push_back(members[0] + members[1]);
    }
    const auto kept = naive_top(of_group, static_cast<std::size_t>(c.spec.group_top_k), TieRule::higher_index);
    for (std::size_t e = 0; e < choice.size(); ++e) {
      if (std::find(kept.begin(), kept.end(), static_cast<int>(e / size)) == kept.end()) choice[e] = 0;
    }
  }
  const std::vector<int> chosen = naive_top(choice, static_cast<std::size_t>(c.top_k), c.spec.ties);
  std::vector<double> weights;
  for (const int e : chosen) weights.push_back(scores[static_cast<std::size_t>(e)]);
  if (c.spec.scoring == RouterScoring::softmax_chosen) weights = softmax(weights);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0) + static_cast<double>(c.spec.normalize_eps);
  Route route;
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    double weight = c.spec.normalize ? weights[j] / sum : weights[j];
    weight *= static_cast<double>(c.spec.scale);
    if (!c.expert_scale.empty()) {
      weight *= static_cast<double>(c.expert_scale[static_cast<std::size_t>(chosen[j])]);
    }
    route[chosen[j]] = static_cast<float>(weight);
  }
  return route;
}

void expect_naive(const Case& c, const std::vector<float>& logits) {
  const std::vector<Route> found = routed(c, logits);
  for (std::size_t row = 0; row < found.size(); ++row) {
    const Route expected = naive_route(c, &logits[row * static_cast<std::size_t>(c.experts)]);
    ASSERT_EQ(found[row].size(), expected.size());
    for (const auto& [expert, weight] : expected) {
      ASSERT_TRUE(found[row].contains(expert)) << "row " << row << ", expert " << expert;
      EXPECT_NEAR(found[row].at(expert), weight, 2e-6F * std::max(1.0F, std::abs(weight)));
    }
  }
}

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

TEST(Router, AgreesWithANaiveOne) {
  unsigned seed = 0;
  for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::softmax_chosen, RouterScoring::sigmoid}) {
    for (const bool normalize : {false, true}) {
      for (const bool corrected : {false, true}) {
        for (const auto& [experts, top_k, groups, kept] :
             {std::array{8, 2, 1, 1}, {8, 2, 4, 2}, {16, 5, 2, 1}, {24, 8, 3, 2}, {6, 6, 1, 1}, {5, 1, 1, 1}}) {
          Case c;
          c.experts = experts;
          c.top_k = top_k;
          c.spec.scoring = scoring;
          c.spec.normalize = normalize;
          c.spec.normalize_eps = 1e-20F;
          c.spec.groups = groups;
          c.spec.group_top_k = kept;
          c.spec.scale = corrected ? 2.5F : 1.0F;
          if (corrected) c.correction = random_values(static_cast<std::size_t>(experts), ++seed);
          if (normalize) c.expert_scale = random_values(static_cast<std::size_t>(experts), ++seed);
          expect_naive(c, random_values(static_cast<std::size_t>(experts) * 20, ++seed));
        }
      }
    }
  }
}

TEST(Router, ThreadsShareRowsAndChangeNoBit) {
  kernels::ThreadTeam team(3);
  unsigned seed = 0;
  for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::softmax_chosen, RouterScoring::sigmoid}) {
    for (const int groups : {1, 4}) {
      Case c;
      c.experts = 64;
      c.top_k = 6;
      c.spec.scoring = scoring;
      c.spec.groups = groups;
      c.spec.group_top_k = (groups + 1) / 2;
      c.spec.normalize = true;
      c.correction = random_values(64, ++seed);
      const std::vector<float> logits = random_values(std::size_t{64} * 512, ++seed);
      const std::uint64_t before = team.dispatches();
      EXPECT_EQ(routed(c, logits, team), routed(c, logits));
      EXPECT_GT(team.dispatches(), before);
    }
  }
}

TEST(Router, ADecodedTokenTakesNoDispatch) {
  kernels::ThreadTeam team(2);
  for (const int experts : {8, 128, 4096}) {
    for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::sigmoid}) {
      Case c;
      c.experts = experts;
      c.spec.scoring = scoring;
      routed(c, random_values(static_cast<std::size_t>(experts), 1), team);
    }
  }
  EXPECT_EQ(team.dispatches(), 0U);
}

TEST(Router, EqualScoresGoToTheIndexOfTheRule) {
  for (const RouterScoring scoring : {RouterScoring::softmax, RouterScoring::softmax_chosen, RouterScoring::sigmoid}) {
    Case c;
    c.spec.scoring = scoring;
    const std::vector<float> logits{1, 3, 0, 3, 3, -1, 3, 2};
    c.spec.ties = TieRule::lower_index;
    expect_naive(c, logits);
    EXPECT_TRUE(routed(c, logits)[0].contains(1) && routed(c, logits)[0].contains(3));
    c.spec.ties = TieRule::higher_index;
    expect_naive(c, logits);
    EXPECT_TRUE(routed(c, logits)[0].contains(4) && routed(c, logits)[0].contains(6));
  }
}

TEST(Router, TheCorrectionDecidesTheChoiceAndNotTheWeight) {
  Case c;
  c.experts = 3;
  c.top_k = 1;
  c.spec.scoring = RouterScoring::sigmoid;
  c.correction = {0, 10, 0};
  const Route route = routed(c, {2, -1, 1})[0];
  ASSERT_TRUE(route.contains(1));
  EXPECT_NEAR(route.at(1), 1 / (1 + std::exp(1.0)), 1e-6);
}

/// Experts of dropped groups have choice 0, not minus infinity: they win against negative ones.
TEST(Router, AMaskedExpertBeatsANegativeChoice) {
  Case c;
  c.experts = 4;
  c.top_k = 2;
  c.spec.scoring = RouterScoring::sigmoid;
  c.spec.groups = 2;
  c.spec.group_top_k = 1;
  c.spec.ties = TieRule::lower_index;
  c.correction = {-0.9F, -2.0F, -3.0F, -3.0F};  // group 0 is better, its second choice negative
  const std::vector<float> logits{3, 0, 0, 0};
  const Route route = routed(c, logits)[0];
  EXPECT_TRUE(route.contains(0));
  EXPECT_TRUE(route.contains(2));  // choice 0 beats -1.5
  expect_naive(c, logits);
}

/// The reference drops the first groups of an ascending order: on ties the later group stays.
TEST(Router, OfEqualGroupsTheLaterStays) {
  Case c;
  c.experts = 6;
  c.top_k = 2;
  c.spec.scoring = RouterScoring::sigmoid;
  c.spec.groups = 3;
  c.spec.group_top_k = 1;
  c.spec.ties = TieRule::lower_index;
  const Route route = routed(c, {1, 1, 1, 1, 1, 1})[0];
  EXPECT_TRUE(route.contains(4) && route.contains(5));
}

TEST(Router, WithoutNormalisationWeightsAreTheScores) {
  Case c;
  const auto sum = [&] {
    const Route route = routed(c, random_values(8, 3))[0];
    return std::accumulate(route.begin(), route.end(), 0.0F,
                           [](float total, const auto& e) { return total + e.second; });
  };
  c.top_k = 8;
  EXPECT_NEAR(sum(), 1, 1e-6);  // all experts of a softmax
  c.top_k = 2;
  EXPECT_LT(sum(), 0.999F);
  c.spec.normalize = true;
  EXPECT_NEAR(sum(), 1, 1e-6);
}

}  // namespace
}  // namespace sluice::model
