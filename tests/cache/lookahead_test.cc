// How many guesses are worth reading, on timelines that are written down.
#include "cache/lookahead.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace sluice::cache {
namespace {

constexpr std::uint64_t kExpertBytes = 1'000'000;  // 1 ms at the first guess of the bandwidth

std::vector<int> numbers(int count) {
  std::vector<int> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// A layer that is looked up `window` seconds after the disk has become idle, over and over. Each candidate is needed
// with a probability of its own, and some other expert is missing with probability `busy`.
struct Timeline {
  double window;
  double busy = 1;
  std::vector<double> precision;
};

// How many were chosen at the end.
std::size_t play(Lookahead& lookahead, const Timeline& timeline, int steps = 2000) {
  std::mt19937 random(5);
  const auto happens = [&](double p) { return std::uniform_real_distribution<>(0, 1)(random) < p; };
  const std::vector<int> candidates = numbers(static_cast<int>(timeline.precision.size()));
  std::size_t chosen = 0;
  double now = 0;
  for (int step = 0; step < steps; ++step) {
    chosen = lookahead.choose(Phase::decode, 0, candidates, kExpertBytes, now += 1);
    std::vector<int> needed;
    for (const int id : candidates) {
      if (happens(timeline.precision[static_cast<std::size_t>(id)])) needed.push_back(id);
    }
    lookahead.lookup(Phase::decode, 0, needed, happens(timeline.busy) ? 1 : 0, now += timeline.window);
  }
  return chosen;
}

TEST(LookaheadTest, NothingIsKnownToBeIdleAtFirst) {
  Lookahead lookahead(LookaheadMode::automatic, 2);
  EXPECT_TRUE(lookahead.wants_guess(Phase::decode, 0));
  EXPECT_EQ(lookahead.choose(Phase::decode, 0, numbers(4), kExpertBytes, 0), 0u);
}

TEST(LookaheadTest, ReadsWhatTheIdleTimeHasRoomForWhenGuessesAreRight) {
  for (const int room : {1, 2, 5}) {
    Lookahead lookahead(LookaheadMode::automatic, 1);
    EXPECT_EQ(play(lookahead, {room * 1.01e-3, 1, std::vector<double>(8, 1.0)}), static_cast<std::size_t>(room) + 1)
        << "a sure guess pays as soon as a part of it is read in time";
  }
}

TEST(LookaheadTest, ReadsNothingIntoABusyDisk) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  EXPECT_EQ(play(lookahead, {0.02e-3, 1, std::vector<double>(4, 0.9)}), 0u)
      << "nearly all of a wrong guess would stand before what is needed";
}

TEST(LookaheadTest, ReadsNothingThatIsUsuallyWrong) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  EXPECT_EQ(play(lookahead, {0.5e-3, 1, std::vector<double>(4, 0.2)}), 0u);
}

TEST(LookaheadTest, StopsAtTheRankWhereGuessesTurnBad) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  EXPECT_EQ(play(lookahead, {2.5e-3, 1, {0.95, 0.9, 0.1, 0.9}}), 2u);
}

TEST(LookaheadTest, AWrongGuessCostsNothingWhenNothingElseIsMissing) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  EXPECT_GE(play(lookahead, {0.5e-3, 0, std::vector<double>(2, 0.3)}), 1u);
}

TEST(LookaheadTest, FollowsTheSpeedOfTheDisk) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  for (int i = 0; i < 20000; ++i) lookahead.measured(4 * kExpertBytes, 1e-3);
  EXPECT_EQ(play(lookahead, {1.01e-3, 1, std::vector<double>(8, 1.0)}), 5u) << "four times as fast";
}

TEST(LookaheadTest, OnReadsIntoIdleTimeHoweverWrong) {
  Lookahead lookahead(LookaheadMode::on, 1);
  EXPECT_EQ(play(lookahead, {2.5e-3, 1, std::vector<double>(8, 0.0)}), 3u);
}

TEST(LookaheadTest, OffAsksForNothing) {
  Lookahead lookahead(LookaheadMode::off, 1);
  EXPECT_FALSE(lookahead.wants_guess(Phase::decode, 0));
}

TEST(LookaheadTest, AsksRarelyAfterManyGuessesInVainAndComesBackWhenThereIsTime) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  play(lookahead, {0.01e-3, 1, std::vector<double>(4, 0.5)});
  int asked = 0;
  for (int i = 0; i < 160; ++i) asked += lookahead.wants_guess(Phase::decode, 0) ? 1 : 0;
  EXPECT_GT(asked, 0);
  EXPECT_LE(asked, 16);
  EXPECT_TRUE(lookahead.wants_guess(Phase::prefill, 0)) << "phases are apart";
  EXPECT_GE(play(lookahead, {2e-3, 1, std::vector<double>(4, 0.9)}), 1u);
  EXPECT_TRUE(lookahead.wants_guess(Phase::decode, 0));
}

// Of `lookups`, how many were to have a guess when one saves `saved` seconds of a wait that falls from 1 to 0
// meanwhile.
int guesses(LookaheadTrial& trial, int lookups, double saved) {
  std::mt19937 random(7);
  std::exponential_distribution<double> wait(1);
  int count = 0;
  for (int i = 0; i < lookups; ++i) {
    const bool guess = trial.next();
    count += guess ? 1 : 0;
    trial.cost(guess, wait(random) * (1 - static_cast<double>(i) / lookups) - (guess ? saved : 0));
  }
  return count;
}

TEST(LookaheadTrialTest, MostLookupsGoTheWayThatWaitsLess) {
  LookaheadTrial saves;
  EXPECT_NEAR(guesses(saves, 17'000, 0.2), 16'000, 2);
  EXPECT_NEAR(saves.saved(), 0.2, 0.1);
  LookaheadTrial costs;
  EXPECT_LT(guesses(costs, 17'000, -0.2), 4'000);
  EXPECT_NEAR(costs.saved(), -0.2, 0.1);
}

TEST(LookaheadTrialTest, FollowsADriveThatChanges) {
  LookaheadTrial trial;
  guesses(trial, 17'000, -0.3);
  EXPECT_LT(guesses(trial, 1'700, -0.3), 200) << "each 17th is still tried";
  guesses(trial, 17'000, 0.3);
  EXPECT_GT(guesses(trial, 1'700, 0.3), 1'500);
}

TEST(LookaheadTest, DecodeGoesWithoutGuessesThatCostTime) {
  Lookahead lookahead(LookaheadMode::automatic, 1);
  Lookahead always(LookaheadMode::on, 1);
  int asked = 0;
  for (int i = 0; i < 3'400; ++i) {
    for (Lookahead* each : {&lookahead, &always}) {
      const bool guess = each->wants_guess(Phase::decode, 0);
      EXPECT_TRUE(guess || each == &lookahead);
      if (each == &lookahead && i >= 1'700) asked += guess ? 1 : 0;
      if (guess) each->guessed(Phase::decode, 0, 1e-3);  // as long as the wait
      each->served(Phase::decode, 0, 1e-3);
    }
    EXPECT_TRUE(lookahead.wants_guess(Phase::prefill, 0)) << "has no trial";
    lookahead.served(Phase::prefill, 0, 1);
  }
  EXPECT_EQ(asked, 100);
}

TEST(LookaheadTest, AGuessThatIsMadeWhileReadsFlyCostsNothing) {
  for (const double wait : {0.0, 1e-3}) {
    Lookahead lookahead(LookaheadMode::automatic, 2);
    int asked = 0;
    for (int i = 0; i < 1'700; ++i) {
      const bool guess = lookahead.wants_guess(Phase::decode, 1);
      asked += guess ? 1 : 0;
      if (guess) lookahead.guessed(Phase::decode, 1, 1e-3);
      lookahead.served(Phase::decode, 0, wait);                   // in which the guess was made
      lookahead.served(Phase::decode, 1, guess ? 0.5e-3 : 1e-3);  // what the guess saves
    }
    if (wait == 0) {
      EXPECT_LT(asked, 700);
    } else {
      EXPECT_EQ(asked, 1'600);
    }
  }
}

TEST(LookaheadTest, ALookupOfAnotherLayerSaysNothing) {
  Lookahead lookahead(LookaheadMode::automatic, 2);
  lookahead.choose(Phase::decode, 1, numbers(1), kExpertBytes, 0);
  lookahead.lookup(Phase::decode, 0, {}, 1, 5);  // would be an endless window
  EXPECT_EQ(lookahead.choose(Phase::decode, 0, numbers(1), kExpertBytes, 6), 0u);
}

}  // namespace
}  // namespace sluice::cache
