#include "cache/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <ostream>
#include <random>
#include <string>

#include "base/error.h"

namespace sluice::cache {
namespace {

using ::testing::HasSubstr;

// A small model whose numbers are easy to add up: 10 layers of 32 experts of 1 MiB, top-4, so that one slot per layer
// costs 10 MiB, a working set 40 MiB and all experts 320 MiB; everything else takes 300 MiB.
BudgetRequest small_model() {
  BudgetRequest request;
  request.available_bytes = 64 * kGiB;
  request.dense_bytes = 100 * kMiB;
  request.kv_bytes = 50 * kMiB;
  request.recurrent_bytes = 6 * kMiB;
  request.scratch_fixed_bytes = 16 * kMiB;
  request.scratch_bytes_per_token = kMiB / 8;
  request.wanted_chunk_tokens = 512;  // 64 MiB
  request.layers.assign(10, {kMiB, 32});
  request.top_k = 4;
  return request;
}
constexpr std::uint64_t kBesideSlots = (100 + 50 + 6 + 16 + 64 + 64) * kMiB;

std::string message_of(const BudgetRequest& request) {
  try {
    plan_budget(request);
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "the plan was accepted";
  return {};
}

struct Case {
  const char* name;
  std::optional<std::uint64_t> memory_mib;
  std::optional<int> cache_slots;
  std::uint64_t available_mib;
  int slots;
  int chunk;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class BudgetTable : public ::testing::TestWithParam<Case> {};

TEST_P(BudgetTable, GivesTheSlotsAndTheChunk) {
  const Case& c = GetParam();
  BudgetRequest request = small_model();
  if (c.memory_mib) request.memory_limit = *c.memory_mib * kMiB;
  request.cache_slots = c.cache_slots;
  request.available_bytes = c.available_mib * kMiB;
  const Budget budget = plan_budget(request);
  EXPECT_EQ(budget.slots_per_layer, c.slots);
  EXPECT_EQ(budget.chunk_tokens, c.chunk);
  EXPECT_LE(budget.total_bytes(), request.memory_limit.value_or(64 * kGiB));
}

INSTANTIATE_TEST_SUITE_P(Plans, BudgetTable,
                         ::testing::Values(Case{"everything fits exactly", 300 + 320, {}, 0, 32, 512},
                                           Case{"more than everything", 5000, {}, 0, 32, 512},
                                           Case{"just below everything", 300 + 319, {}, 0, 28, 512},
                                           Case{"whole working sets only", 300 + 199, {}, 0, 16, 512},
                                           Case{"the floor with the wanted chunk", 300 + 40, {}, 0, 4, 512},
                                           Case{"the chunk shrinks at the floor", 300 + 40 - 32, {}, 0, 4, 256},
                                           Case{"down to eight tokens", 300 + 40 - 63, {}, 0, 4, 8},
                                           Case{"explicit slots need no memory", {}, 20, 0, 20, 512},
                                           Case{"explicit slots are clipped", {}, 100, 64 * 1024, 32, 512},
                                           Case{"explicit slots need not be working sets", 2000, 5, 0, 5, 512},
                                           Case{"explicit slots shrink the chunk", 300 + 100 - 60, 10, 0, 10, 32},
                                           Case{"by default most of a big machine", {}, {}, 64 * 1024, 32, 512},
                                           Case{"at most half of a small machine", {}, {}, 2 * (300 + 80), 8, 512}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

TEST(Budget, TheReserveIsOneGiBOrTenPercent) {
  BudgetRequest request = small_model();
  for (const std::uint64_t gib : {3, 8, 10, 20, 100}) {
    request.available_bytes = gib * kGiB;
    EXPECT_EQ(plan_budget(request).limit_bytes, gib * kGiB - std::max(kGiB, gib * kGiB / 10));
  }
}

TEST(Budget, MoreMemoryNeverMeansFewerSlotsAndTheLimitHolds) {
  std::mt19937_64 random(11);
  const auto below = [&random](std::uint64_t end) { return random() % end; };
  for (int model = 0; model < 60; ++model) {
    BudgetRequest request;
    request.dense_bytes = below(500 * kMiB);
    request.kv_bytes = below(200 * kMiB);
    request.recurrent_bytes = below(20 * kMiB);
    request.scratch_fixed_bytes = below(20 * kMiB);
    request.scratch_bytes_per_token = below(kMiB);
    request.wanted_chunk_tokens = 1 + static_cast<int>(below(512));
    request.top_k = 1 + static_cast<int>(below(10));
    request.staging_slots = static_cast<int>(below(3));
    for (std::uint64_t layer = 0; layer < 1 + below(8); ++layer) {
      request.layers.push_back({1 + below(4 * kMiB), 1 + static_cast<int>(below(64))});
    }
    int slots_before = 0;
    int accepted = 0;
    for (std::uint64_t mib = 16; mib < 4096; mib += 1 + mib / 20) {
      request.memory_limit = mib * kMiB;
      Budget budget;
      try {
        budget = plan_budget(request);
      } catch (const Error&) {
        EXPECT_EQ(accepted, 0) << "less memory was enough";
        continue;
      }
      ++accepted;
      EXPECT_LE(budget.total_bytes(), mib * kMiB);
      EXPECT_GE(budget.slots_per_layer, slots_before);
      EXPECT_GE(budget.chunk_tokens, 1);
      slots_before = budget.slots_per_layer;
      int most = 0;
      for (const BudgetRequest::Layer& layer : request.layers) most = std::max(most, layer.experts);
      EXPECT_TRUE(budget.slots_per_layer == most || budget.slots_per_layer % request.top_k == 0);
      EXPECT_GE(budget.slots_per_layer, std::min(request.top_k, most));
    }
    EXPECT_GT(accepted, 0);
  }
}

TEST(Budget, ItemsAddUpToTheTotal) {
  BudgetRequest request = small_model();
  request.staging_slots = 3;
  request.cache_slots = 8;
  const Budget budget = plan_budget(request);
  EXPECT_EQ(budget.slot_bytes, 80 * kMiB);
  EXPECT_EQ(budget.staging_bytes, 3 * kMiB);
  EXPECT_EQ(budget.scratch_bytes, 80 * kMiB);
  EXPECT_EQ(budget.total_bytes(), kBesideSlots + 83 * kMiB);
  EXPECT_THAT(budget.table(), HasSubstr("383 MiB"));
}

TEST(Budget, LayersWithFewerExpertsCostNoMoreThanTheirExperts) {
  BudgetRequest request = small_model();
  request.layers = {{kMiB, 32}, {2 * kMiB, 8}};
  request.cache_slots = 16;
  EXPECT_EQ(plan_budget(request).slot_bytes, (16 + 2 * 8) * kMiB);
}

TEST(Budget, ADenseModelHasNoSlotsButALimitAllTheSame) {
  BudgetRequest request = small_model();
  request.layers.clear();
  request.top_k = 0;
  request.memory_limit = kBesideSlots;
  EXPECT_EQ(plan_budget(request).slots_per_layer, 0);
  request.cache_slots = 8;
  EXPECT_THAT(plan_budget(request).notices, ::testing::ElementsAre(HasSubstr("no routed experts")));
  request.memory_limit = 200 * kMiB;
  EXPECT_THAT(message_of(request), HasSubstr("--memory"));
}

TEST(Budget, SlotsBelowTheFloorAreRefusedByName) {
  BudgetRequest request = small_model();
  for (const int slots : {-1, 0, 3}) {
    request.cache_slots = slots;
    EXPECT_THAT(message_of(request), HasSubstr("--cache-slots " + std::to_string(slots) + ": "));
    EXPECT_THAT(message_of(request), HasSubstr("at least 4"));
  }
  request.layers.assign(2, {kMiB, 2});  // a layer cannot have more slots than experts
  request.cache_slots = 2;
  EXPECT_EQ(plan_budget(request).slots_per_layer, 2);
}

TEST(Budget, AMemoryLimitBelowTheFloorIsRefusedWithTheTableAndWhatWouldDo) {
  BudgetRequest request = small_model();
  const std::uint64_t least_mib = 300 + 40 - 63 - 1 + 1;  // the chunk of one token takes 1/8 MiB, rounded up
  request.memory_limit = 200 * kMiB;
  const std::string message = message_of(request);
  EXPECT_THAT(message, HasSubstr("--memory 200 MiB: "));
  EXPECT_THAT(message, HasSubstr(std::to_string(least_mib) + "MiB"));
  for (const char* item : {"dense weights", "expert slots", "KV cache", "prefill scratch", "program", "total"}) {
    EXPECT_THAT(message, HasSubstr(item));
  }
  request.memory_limit = least_mib * kMiB;
  EXPECT_EQ(plan_budget(request).slots_per_layer, 4) << "what the message asks for is enough";
  request.memory_limit = (least_mib - 1) * kMiB;
  message_of(request);
}

TEST(Budget, ExplicitSlotsHaveToFitIntoAnExplicitLimit) {
  BudgetRequest request = small_model();
  request.memory_limit = 400 * kMiB;
  request.cache_slots = 30;
  EXPECT_THAT(message_of(request), HasSubstr("with 30 slots per layer"));
}

TEST(Budget, SaysWhereTheSlotsComeFromAndWhatWasNotAsRequested) {
  BudgetRequest request = small_model();
  EXPECT_THAT(plan_budget(request).origin, HasSubstr("64.0 GiB available"));
  EXPECT_TRUE(plan_budget(request).notices.empty());
  request.cache_slots = 64;
  EXPECT_EQ(plan_budget(request).origin, "--cache-slots");
  EXPECT_THAT(plan_budget(request).notices, ::testing::ElementsAre(HasSubstr("requested --cache-slots 64, got 32")));
  request.cache_slots.reset();
  request.memory_limit = 310 * kMiB;
  EXPECT_EQ(plan_budget(request).origin, "--memory");
  EXPECT_THAT(plan_budget(request).notices, ::testing::ElementsAre(HasSubstr("prefill chunk of 512 tokens, got 272")));
}

TEST(Budget, ExplicitSlotsAreHeldToWhatTheMachineHas) {
  BudgetRequest request = small_model();
  request.hold_to_available = true;
  request.cache_slots = 32;
  request.available_bytes = 600 * kMiB;
  const Budget budget = plan_budget(request);
  EXPECT_EQ(budget.slots_per_layer, 28) << "whole working sets";
  EXPECT_LE(budget.total_bytes(), request.available_bytes);
  EXPECT_THAT(budget.notices,
              ::testing::ElementsAre(HasSubstr("requested --cache-slots 32, got 28 because with more")));
}

TEST(Budget, AnExplicitSizeIsHeldToWhatTheMachineHas) {
  BudgetRequest request = small_model();
  request.hold_to_available = true;
  request.memory_limit = 4 * kGiB;
  request.available_bytes = 600 * kMiB;
  const Budget budget = plan_budget(request);
  EXPECT_EQ(budget.limit_bytes, 600 * kMiB);
  EXPECT_LE(budget.total_bytes(), request.available_bytes);
  EXPECT_THAT(budget.notices, ::testing::ElementsAre(HasSubstr("requested --memory 4.00 GiB, got 600 MiB")));
}

TEST(Budget, TheFloorIsTriedWhateverIsAvailable) {
  BudgetRequest request = small_model();
  request.hold_to_available = true;
  request.available_bytes = 100 * kMiB;
  request.cache_slots = 8;
  const Budget by_slots = plan_budget(request);
  EXPECT_EQ(by_slots.slots_per_layer, 4);
  EXPECT_THAT(by_slots.notices, ::testing::Contains(HasSubstr("slots are given back")));
  request.cache_slots.reset();
  request.memory_limit = 400 * kMiB;
  EXPECT_THAT(plan_budget(request).notices, ::testing::Contains(HasSubstr("slots are given back")));
}

TEST(Budget, StagingIsPartOfIt) {
  BudgetRequest request = small_model();
  request.memory_limit = kBesideSlots + 80 * kMiB;
  EXPECT_EQ(plan_budget(request).slots_per_layer, 8);
  request.staging_slots = 1;
  EXPECT_EQ(plan_budget(request).slots_per_layer, 4) << "the next whole working set";
  EXPECT_EQ(plan_budget(request).staging_bytes, kMiB);
}

}  // namespace
}  // namespace sluice::cache
