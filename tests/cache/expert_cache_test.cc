// What a user of the cache relies on, one behaviour at a time. The model test beside this one covers the mixtures.
#include "cache/expert_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

using stream::IoOp;
using stream::Outcome;

// Hands out everything a lease has left; returns the ids in the order they came.
void load(ExpertCache& cache, int layer, const std::vector<int>& ids, std::uint64_t step) {
  Lease lease = cache.acquire(layer, ids, Phase::decode, step);
  drain(lease);
}

std::vector<int> residents(const ExpertCache& cache, int layer) {
  std::vector<int> ids;
  for (int expert = 0; expert < cache.experts(layer); ++expert) {
    if (cache.resident(layer, expert)) ids.push_back(expert);
  }
  return ids;
}

class ExpertCacheTest : public ::testing::Test {
 protected:
  static constexpr int kExperts = 10;

  // Fails every operation that touches the middle of an expert in bad_, for as long as it is in there.
  Outcome outcome(const IoOp& op) const {
    for (const int expert : bad_) {
      const Slice& slice = file_.layers()[0].slice(expert, 1);
      const std::uint64_t middle = slice.offset + slice.bytes / 2;
      if (op.offset <= middle && middle < op.offset + op.length) return {.error = EIO};
    }
    return {};
  }

  std::set<int> bad_;
  // Part 1 is longer than two pages, so that no window of a neighbour reaches its middle.
  ExpertFile file_{{{kExperts, {6000, 9000, 130}}}};
  stream::Reader reader_ = file_.reader(7, [this](const IoOp& op, std::size_t) { return outcome(op); });
};

TEST_F(ExpertCacheTest, HandsOutResidentsFirstAndBeforeAnyReadEnds) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 6}, reader_);
  load(cache, 0, {2, 5}, 1);
  Lease lease = cache.acquire(0, std::vector{7, 5, 1, 2}, Phase::decode, 2);
  EXPECT_FALSE(lease.all_resident());
  const auto first = lease.next();
  EXPECT_EQ(ids_of(first), (std::vector{2, 5}));
  EXPECT_TRUE(first[0].hit);
  EXPECT_GT(reader_.outstanding(), 0u) << "the misses were submitted and nobody has waited for them";
  std::set<int> landed;
  for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
    for (const ReadyExpert& ready : batch) {
      EXPECT_FALSE(ready.hit);
      EXPECT_TRUE(file_.holds(0, ready));
      landed.insert(ready.id);
    }
  }
  EXPECT_EQ(landed, (std::set{1, 7}));
}

TEST_F(ExpertCacheTest, OneBatchIsAllWhenEveryExpertIsResident) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4}, reader_);
  load(cache, 0, {3, 4}, 1);
  Lease lease = cache.acquire(0, std::vector{4, 3}, Phase::decode, 2);
  EXPECT_TRUE(lease.all_resident());
  EXPECT_EQ(ids_of(lease.next()), (std::vector{3, 4}));
  EXPECT_TRUE(lease.next().empty());
}

TEST_F(ExpertCacheTest, AnEmptyRequestIsDoneAtOnce) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 1}, reader_);
  Lease lease = cache.acquire(0, {}, Phase::decode, 1);
  EXPECT_TRUE(lease.next().empty());
  EXPECT_EQ(cache.counts(Phase::decode).lookups, 0u);
}

TEST_F(ExpertCacheTest, AUnionLargerThanTheSlotsGoesThroughInWaves) {
  for (int slots = 1; slots < kExperts; ++slots) {
    ExpertCache cache(file_.layers(), {.slots_per_layer = slots}, reader_);
    std::vector<int> all(kExperts);
    std::iota(all.begin(), all.end(), 0);
    Lease lease = cache.acquire(0, all, Phase::prefill, 1);
    std::vector<int> seen;
    for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
      EXPECT_LE(batch.size(), static_cast<std::size_t>(slots));
      for (const ReadyExpert& ready : batch) {
        EXPECT_TRUE(file_.holds(0, ready));
        seen.push_back(ready.id);
      }
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, all) << "each expert once, with " << slots << " slots";
    EXPECT_EQ(cache.counts(Phase::prefill).misses_cold, static_cast<std::uint64_t>(kExperts));
    EXPECT_EQ(residents(cache, 0).size(), static_cast<std::size_t>(slots));
  }
}

TEST_F(ExpertCacheTest, HandsOutFewAtOnceWhileExpertsWaitForSlots) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4}, reader_);
  load(cache, 0, {0, 1, 2, 3}, 1);
  Lease lease = cache.acquire(0, std::vector{0, 1, 2, 3, 4, 5, 6}, Phase::prefill, 2);
  const std::size_t before = reader_.outstanding();
  EXPECT_EQ(lease.next().size(), 1U) << "four are there, and every slot that is given back can be read into";
  EXPECT_EQ(reader_.outstanding(), before);
  EXPECT_EQ(lease.next().size(), 1U);
  EXPECT_GT(reader_.outstanding(), before) << "the first one's slot";
  EXPECT_EQ(drain(lease).size(), 5U);
}

TEST_F(ExpertCacheTest, AnExpertThatAnotherLeaseIsReadingIsAHitAndReadOnce) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4}, reader_);
  Lease first = cache.acquire(0, std::vector{1, 2}, Phase::decode, 1);
  const std::size_t operations = reader_.outstanding();
  Lease second = cache.acquire(0, std::vector{2}, Phase::decode, 1);
  EXPECT_EQ(reader_.outstanding(), operations);
  EXPECT_FALSE(second.all_resident()) << "it still has to land";
  EXPECT_EQ(cache.counts(Phase::decode).hits, 1u);
  EXPECT_EQ(drain(second), std::vector{2});
  EXPECT_EQ(drain(first).size(), 2u);
}

TEST_F(ExpertCacheTest, FailsInsteadOfWaitingForSlotsThatOtherLeasesPin) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 2}, reader_);
  Lease waiting = [&] {
    Lease holder = cache.acquire(0, std::vector{0, 1}, Phase::decode, 1);
    drain(holder);
    Lease blocked = cache.acquire(0, std::vector{1, 8}, Phase::decode, 1);
    EXPECT_EQ(ids_of(blocked.next()), std::vector{1}) << "a hit needs no slot of its own";
    EXPECT_THROW(blocked.next(), Error);
    return blocked;
  }();
  EXPECT_EQ(drain(waiting), std::vector{8}) << "the other lease is gone, so it goes on";
}

TEST_F(ExpertCacheTest, PinnedExpertsStayWhileOthersAreEvicted) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 3}, reader_);
  Lease lease = cache.acquire(0, std::vector{4}, Phase::decode, 1);
  const ReadyExpert pinned = lease.next().front();
  for (std::uint64_t step = 2; step < 40; ++step) load(cache, 0, {static_cast<int>(step % 4)}, step);
  EXPECT_TRUE(cache.resident(0, 4));
  EXPECT_TRUE(file_.holds(0, pinned));
}

TEST_F(ExpertCacheTest, AReusedSlotHasANewGeneration) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 1}, reader_);
  std::set<std::uint32_t> generations;
  for (std::uint64_t step = 0; step < 6; ++step) {
    Lease lease = cache.acquire(0, std::vector{static_cast<int>(step % 2)}, Phase::decode, step);
    generations.insert(lease.next().front().generation);
  }
  EXPECT_EQ(generations.size(), 6u);
}

TEST_F(ExpertCacheTest, ADroppedLeaseLeavesWhatItReadResident) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 3}, reader_);
  { const Lease dropped = cache.acquire(0, std::vector{0, 6, 9}, Phase::decode, 1); }
  EXPECT_EQ(reader_.outstanding(), 0u);
  EXPECT_EQ(residents(cache, 0), (std::vector{0, 6, 9}));
}

TEST_F(ExpertCacheTest, ColdMissesAreThoseOfExpertsThatHaveNeverBeenHere) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 1}, reader_);
  for (const int expert : {0, 1, 0, 0, 2, 1}) load(cache, 0, {expert}, 1);
  const LookupCounts counts = cache.counts(Phase::decode);
  EXPECT_EQ(counts.misses_cold, 3u);
  EXPECT_EQ(counts.misses_capacity, 2u);
  EXPECT_EQ(counts.hits, 1u);
}

TEST_F(ExpertCacheTest, AFailedReadNamesTheExpertAndLeavesTheOthers) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4}, reader_);
  bad_ = {3};
  Lease lease = cache.acquire(0, std::vector{1, 3, 5}, Phase::decode, 1);
  std::vector<int> seen;
  std::string message;
  for (bool done = false; !done;) {
    try {
      const auto batch = lease.next();
      for (const ReadyExpert& ready : batch) seen.push_back(ready.id);
      done = batch.empty();
    } catch (const Error& error) {
      EXPECT_TRUE(message.empty()) << "once for each failed expert";
      message = error.what();
    }
  }
  EXPECT_THAT(message, ::testing::HasSubstr("layer 0, expert 3: "));
  EXPECT_THAT(message, ::testing::HasSubstr("Input/output error")) << "what the reader said";
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector{1, 5}));
  EXPECT_EQ(residents(cache, 0), (std::vector{1, 5}));
}

TEST_F(ExpertCacheTest, TheSlotOfAFailedReadIsFreeAgainAndANewReadMaySucceed) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 1}, reader_);
  bad_ = {3};
  for (int attempt = 0; attempt < 3; ++attempt) {
    Lease lease = cache.acquire(0, std::vector{3}, Phase::decode, 1);
    EXPECT_THROW(lease.next(), Error);
    EXPECT_FALSE(cache.resident(0, 3));
  }
  bad_ = {};
  Lease lease = cache.acquire(0, std::vector{3}, Phase::decode, 2);
  const auto batch = lease.next();
  ASSERT_EQ(ids_of(batch), std::vector{3});
  EXPECT_TRUE(file_.holds(0, batch.front()));
  EXPECT_EQ(cache.counts(Phase::decode).misses_cold, 4u) << "it had never been here";
}

TEST_F(ExpertCacheTest, EveryLeaseThatWaitsForAFailedReadIsTold) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 2}, reader_);
  bad_ = {3};
  Lease first = cache.acquire(0, std::vector{3}, Phase::decode, 1);
  Lease second = cache.acquire(0, std::vector{3}, Phase::decode, 1);
  EXPECT_THROW(first.next(), Error);
  bad_ = {};
  Lease third = cache.acquire(0, std::vector{3}, Phase::decode, 1);
  EXPECT_EQ(drain(third), std::vector{3}) << "read anew, into the other slot";
  EXPECT_THROW(second.next(), Error);
  EXPECT_TRUE(second.next().empty());
  EXPECT_TRUE(cache.resident(0, 3));
}

TEST_F(ExpertCacheTest, ADroppedLeaseSwallowsItsFailedReads) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 2}, reader_);
  bad_ = {3};
  { const Lease dropped = cache.acquire(0, std::vector{2, 3}, Phase::decode, 1); }
  EXPECT_EQ(residents(cache, 0), std::vector{2});
  load(cache, 0, {4, 5}, 2);
  EXPECT_EQ(residents(cache, 0), (std::vector{4, 5})) << "both slots can be used";
}

TEST_F(ExpertCacheTest, FailuresInWavesLoseNobodyElse) {
  for (int slots = 1; slots <= kExperts; ++slots) {
    ExpertCache cache(file_.layers(), {.slots_per_layer = slots}, reader_);
    bad_ = {0, 4, 5, 9};
    std::vector<int> all(kExperts);
    std::iota(all.begin(), all.end(), 0);
    Lease lease = cache.acquire(0, all, Phase::prefill, 1);
    std::set<int> seen;
    std::size_t errors = 0;
    for (bool done = false; !done;) {
      try {
        const auto batch = lease.next();
        for (const ReadyExpert& ready : batch) EXPECT_TRUE(file_.holds(0, ready) && seen.insert(ready.id).second);
        done = batch.empty();
      } catch (const Error&) {
        ++errors;
      }
    }
    EXPECT_EQ(seen, (std::set{1, 2, 3, 6, 7, 8}));
    EXPECT_EQ(errors, bad_.size());
  }
}

TEST_F(ExpertCacheTest, StallsAreTheWaitsForReadsOfTheirPhase) {
  static double now = 0;
  ExpertCache cache(file_.layers(), {.slots_per_layer = 4, .seconds = [] { return now += 1.0; }}, reader_);
  for (std::uint64_t step = 1; step <= 20; ++step) load(cache, 0, {static_cast<int>(step % kExperts)}, step);
  const double waited = cache.stall_seconds(Phase::decode);
  EXPECT_GE(waited, 1.0);
  EXPECT_EQ(cache.stall_seconds(Phase::prefill), 0.0);
  for (int i = 0; i < 20; ++i) load(cache, 0, {0, kExperts - 1}, 20);
  EXPECT_EQ(cache.stall_seconds(Phase::decode), waited) << "hits wait for nothing";
}

TEST_F(ExpertCacheTest, ADiskAHundredTimesSlowerOnlyTakesLonger) {
  static double now = 0;
  struct Outcomes {
    LookupCounts counts;
    double stalled;
    std::vector<int> residents;
  };
  const auto run = [&](double seconds_per_read) {
    stream::Reader reader = file_.reader(7, [=](const IoOp&, std::size_t) {
      now += seconds_per_read;
      return Outcome{};
    });
    ExpertCache cache(file_.layers(), {.slots_per_layer = 4, .seconds = [] { return now; }}, reader);
    std::mt19937 random(1);
    for (std::uint64_t step = 1; step <= 50; ++step) {
      const int first = static_cast<int>(random() % (kExperts - 3));
      load(cache, 0, {first, first + 1, first + 3}, step);
    }
    return Outcomes{cache.counts(Phase::decode), cache.stall_seconds(Phase::decode), residents(cache, 0)};
  };
  const Outcomes fast = run(0.001);
  const Outcomes slow = run(0.1);
  EXPECT_GT(fast.stalled, 0);
  EXPECT_NEAR(slow.stalled, 100 * fast.stalled, 1e-6);
  EXPECT_EQ(slow.counts.hits, fast.counts.hits);
  EXPECT_EQ(slow.counts.bytes_read, fast.counts.bytes_read);
  EXPECT_EQ(slow.residents, fast.residents);
}

TEST_F(ExpertCacheTest, SteadyCountsLeaveOutPrefillAndTheWarmUp) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 2}, reader_);
  std::uint64_t step = 0;
  for (int i = 0; i < kWarmUpSteps; ++i) {
    ++step;
    load(cache, 0, {i % 3}, step);
    load(cache, 0, {i % 3}, step);  // a step may have many lookups
  }
  EXPECT_EQ(cache.steady_counts().lookups, 0u);
  const LookupCounts warm_up = cache.counts(Phase::decode);
  { const Lease prefill = cache.acquire(0, std::vector{5}, Phase::prefill, ++step); }
  for (int i = 0; i < 20; ++i) load(cache, 0, {i % 3}, ++step);
  LookupCounts sum = cache.steady_counts();
  EXPECT_EQ(sum.lookups, 20u);
  EXPECT_EQ(sum.hits + sum.misses_cold + sum.misses_capacity, sum.lookups);
  sum += warm_up;
  EXPECT_EQ(sum.hits, cache.counts(Phase::decode).hits);
  EXPECT_EQ(sum.bytes_read, cache.counts(Phase::decode).bytes_read);
}

TEST_F(ExpertCacheTest, LayersWithFewerExpertsThanSlotsHaveAsManySlotsAsExperts) {
  ExpertCache cache(file_.layers(), {.slots_per_layer = 1000}, reader_);
  EXPECT_EQ(cache.slots(0), kExperts);
  EXPECT_EQ(cache.slot_bytes(), kExperts * slot_capacity(file_.layers()[0]));
}

TEST_F(ExpertCacheTest, RefusesExpertsOfUnequalSizeAndUnknownPolicies) {
  std::vector<LayerExperts> layers = file_.layers();
  layers[0].slices[5].bytes += 1;
  EXPECT_THROW(ExpertCache(layers, {.slots_per_layer = 2}, reader_), Error);
  EXPECT_THROW(ExpertCache(file_.layers(), {.slots_per_layer = 2, .policy = "fifo"}, reader_), UsageError);
}

// A kernel that takes no reads.
class RefusingEngine final : public stream::IoEngine {
 public:
  std::string_view name() const override { return "refusing"; }
  unsigned depth() const override { return 8; }
  void submit(std::span<const IoOp>) override { fail("submission refused"); }
  std::size_t reap(std::span<stream::IoResult>, bool) override { return 0; }
};

TEST(ExpertCache, AnEngineThatRefusesReadsIsAnErrorAndNeverAHang) {
  ExpertFile file({{4, {5000, 100}}});
  stream::Reader reader(std::make_unique<RefusingEngine>(), false);
  reader.add_file(file.write());
  ExpertCache cache(file.layers(), {.slots_per_layer = 2}, reader);
  EXPECT_THROW(cache.acquire(0, std::vector{1}, Phase::decode, 1), Error);
  Lease lease = cache.acquire(0, std::vector{1}, Phase::decode, 2);
  EXPECT_THROW(lease.next(), Error) << "nothing will ever land";
}

TEST(ExpertCache, ReadsARealFileThroughEveryEngine) {
  ExpertFile file({{8, {100'001, 3000, 4096}}});
  const std::filesystem::path path = file.write();
  for (const char* engine : {"uring", "pread"}) {
    stream::Reader reader = stream::Reader::open(engine, path);
    reader.add_file(path);
    ExpertCache cache(file.layers(), {.slots_per_layer = 3}, reader);
    Lease lease = cache.acquire(0, std::vector{0, 1, 2, 3, 4, 5, 6, 7}, Phase::prefill, 1);
    std::size_t seen = 0;
    for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
      for (const ReadyExpert& ready : batch) EXPECT_TRUE(file.holds(0, ready)) << engine << ", expert " << ready.id;
      seen += batch.size();
    }
    EXPECT_EQ(seen, 8u);
  }
}

/// Looks up experts 1 and 2 of layer 0 and returns how many reads the device saw.
std::size_t reads_of_two(ExpertFile& file) {
  stream::Reader reader = file.reader(1);
  ExpertCache cache(file.layers(), {.slots_per_layer = 2}, reader);
  Lease lease = cache.acquire(0, std::vector{1, 2}, Phase::decode, 1);
  std::size_t seen = 0;
  for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
    for (const ReadyExpert& ready : batch) EXPECT_TRUE(file.holds(0, ready));
    seen += batch.size();
  }
  EXPECT_EQ(seen, 2u);
  return file.device().log.size();
}

TEST(ExpertCache, LongPartsAreReadInPieces) {
  ExpertFile file({{3, {3 * kMiB + 5, 5000}}});
  EXPECT_EQ(reads_of_two(file), 2u * (4 + 1));
}

TEST(ExpertCache, PartsSideBySideAreReadTogether) {
  ExpertFile file({{3, {5000, 313, 4096, 313}}}, ExpertFile::Order::by_expert);
  EXPECT_EQ(reads_of_two(file), 2u);
}

}  // namespace
}  // namespace sluice::cache
