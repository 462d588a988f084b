// Guesses at generated routes are as good as asked for.
#include "model/routes/guess_noise.h"

#include <gtest/gtest.h>

namespace sluice::model {
namespace {

TEST(GuessNoise, GivesTheRecallThatWasAskedFor) {
  for (const char* name : {"qwen3-30b", "gpt-oss-120b", "olmoe", "inkwell-44m"}) {
    const RouteGenerator generator(routing_profile(name, "gen"), 7);
    for (const double recall : {0.6, 0.8, 0.9}) {
      const float noise = guess_noise(generator, recall);
      // Over more routes than it was found with, most of them others.
      EXPECT_NEAR(guess_recall(generator, noise, 4096), recall, 0.025) << name << " " << noise;
    }
  }
}

TEST(GuessNoise, NoneIsPerfectAndMoreIsWorse) {
  const RouteGenerator generator(routing_profile("olmoe", "gen"), 2, 64, 8, 3);
  EXPECT_EQ(guess_noise(generator, 1), 0);
  EXPECT_EQ(guess_recall(generator, 0, 100), 1);
  double last = 1;
  for (const float noise : {0.5F, 1.0F, 2.0F, 4.0F, 1000.0F}) {
    const double recall = guess_recall(generator, noise, 400);
    EXPECT_LT(recall, last);
    last = recall;
  }
  EXPECT_NEAR(last, 8.0 / 64, 0.03);
}

TEST(GuessNoise, IsBlindWhereEvenThatFindsMore) {
  const RouteGenerator generator(routing_profile("olmoe", "gen"), 2, 8, 4, 3);
  EXPECT_NEAR(guess_recall(generator, guess_noise(generator, 0.2), 1000), 0.5, 0.05);
}

}  // namespace
}  // namespace sluice::model
