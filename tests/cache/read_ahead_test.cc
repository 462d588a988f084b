// Experts that are read before they are asked for: they save time and change nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>
#include <vector>

#include "base/error.h"
#include "cache/expert_cache.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

using stream::IoOp;
using stream::Outcome;

constexpr int kExperts = 12;

const std::vector<ExpertFile::LayerShape> kShapes{
    {kExperts, {6000, 9000, 130}}, {kExperts, {6000, 9000, 130}}, {5, {700, 8000}}};

// Of all operations; none of these tests has a read continued.
std::uint64_t requested_bytes(ExpertFile& file) {
  std::uint64_t bytes = 0;
  for (const IoOp& op : file.device().log) bytes += op.length;
  return bytes;
}

CacheOptions options(int slots, int staging, double (*seconds)() = steady_seconds) {
  return {.slots_per_layer = slots, .staging_slots = staging, .lookahead = LookaheadMode::on, .seconds = seconds};
}

class ReadAheadTest : public ::testing::Test {
 protected:
  ReadAheadTest() { time_ = 0; }

  // A second passes whenever anyone looks, so that the disk always seems to have time for many experts.
  static double tick() { return time_ += 1; }

  Outcome outcome(const IoOp& op) const {
    for (const int expert : bad_) {
      const Slice& slice = file_.layers()[1].slice(expert, 1);
      const std::uint64_t middle = slice.offset + slice.bytes / 2;
      if (op.offset <= middle && middle < op.offset + op.length) return {.error = EIO};
    }
    return {};
  }

  // One guess teaches the cache that there is time.
  static void warm_up(ExpertCache& cache) {
    cache.read_ahead(Phase::decode, 1, {});
    Lease lease = cache.acquire(1, {}, Phase::decode, 0);
  }

  static inline double time_ = 0;
  std::set<int> bad_;
  ExpertFile file_{kShapes};
  stream::Reader reader_ = file_.reader(7, [this](const IoOp& op, std::size_t) { return outcome(op); });
};

TEST_F(ReadAheadTest, AGuessThatWasRightIsAMissThatIsThere) {
  ExpertCache cache(file_.layers(), options(4, 3, tick), reader_);
  warm_up(cache);
  cache.read_ahead(Phase::decode, 1, std::vector{5, 2});
  EXPECT_GT(reader_.outstanding(), 0u);
  cache.finish_reads();
  EXPECT_FALSE(cache.resident(1, 5)) << "nobody has looked it up";
  const std::uint64_t operations = file_.device().log.size();

  Lease lease = cache.acquire(1, std::vector{2, 5}, Phase::decode, 1);
  EXPECT_TRUE(lease.all_resident());
  const auto batch = lease.next();
  ASSERT_EQ(ids_of(batch), (std::vector{2, 5}));
  for (const ReadyExpert& ready : batch) {
    EXPECT_TRUE(file_.holds(1, ready));
    EXPECT_FALSE(ready.hit);
  }
  EXPECT_EQ(file_.device().log.size(), operations) << "nothing was read again";
  const LookupCounts& counts = cache.counts(1, Phase::decode);
  EXPECT_EQ(counts.hits, 0u);
  EXPECT_EQ(counts.misses_cold, 2u);
  EXPECT_EQ(counts.bytes_needed, 2u * (6000 + 9000 + 130));
  const SpeculationCounts& ahead = cache.speculation(Phase::decode);
  EXPECT_EQ(ahead.reads, 2u);
  EXPECT_EQ(ahead.used, 2u);
  EXPECT_EQ(ahead.bytes_read, ahead.bytes_used);
  EXPECT_EQ(ahead.bytes_used, counts.bytes_read);
}

TEST_F(ReadAheadTest, AGuessThatWasWrongIsDroppedAndItsPlaceUsedAgain) {
  ExpertCache cache(file_.layers(), options(4, 2, tick), reader_);
  warm_up(cache);
  for (std::uint64_t step = 1; step < 5; ++step) {
    cache.read_ahead(Phase::decode, 1, std::vector{5, 6});
    Lease lease = cache.acquire(1, std::vector{0, 1, 2}, Phase::decode, step);
    EXPECT_EQ(drain(lease).size(), 3u);
    EXPECT_FALSE(cache.resident(1, 5));
    cache.finish_reads();
  }
  EXPECT_EQ(cache.speculation(Phase::decode).reads, 8u);
  EXPECT_EQ(cache.speculation(Phase::decode).used, 0u);
  EXPECT_EQ(cache.counts(1, Phase::decode).hits, 9u) << "the guesses evicted nothing";
}

TEST_F(ReadAheadTest, ResidentsAndWhatIsBeyondTheStagingAreNotRead) {
  ExpertCache cache(file_.layers(), options(6, 2, tick), reader_);
  warm_up(cache);
  {
    Lease lease = cache.acquire(1, std::vector{3}, Phase::decode, 1);
    drain(lease);
  }
  cache.read_ahead(Phase::decode, 1, std::vector{3, 4, 5, 6});
  EXPECT_EQ(cache.speculation(Phase::decode).reads, 2u);
  Lease lease = cache.acquire(1, std::vector{4, 5, 6}, Phase::decode, 2);
  EXPECT_EQ(cache.speculation(Phase::decode).used, 2u);
  drain(lease);
}

TEST_F(ReadAheadTest, NothingIsReadAheadWhileDemandedReadsAreUnderWay) {
  ExpertCache cache(file_.layers(), options(6, 2, tick), reader_);
  warm_up(cache);
  Lease lease = cache.acquire(0, std::vector{3}, Phase::decode, 1);
  cache.read_ahead(Phase::decode, 1, std::vector{4});
  EXPECT_EQ(cache.speculation(Phase::decode).reads, 0u);
  drain(lease);
  EXPECT_EQ(cache.speculation(Phase::decode).reads, 1u) << "and then by itself";
}

TEST_F(ReadAheadTest, AnExpertWhoseGuessFailedIsReadWhenItIsNeeded) {
  ExpertCache cache(file_.layers(), options(4, 2, tick), reader_);
  warm_up(cache);
  bad_ = {5};
  cache.read_ahead(Phase::decode, 1, std::vector{5});
  cache.finish_reads();
  bad_ = {};
  Lease lease = cache.acquire(1, std::vector{5}, Phase::decode, 1);
  EXPECT_FALSE(lease.all_resident());
  const auto batch = lease.next();
  ASSERT_EQ(ids_of(batch), std::vector{5});
  EXPECT_TRUE(file_.holds(1, batch[0]));
  EXPECT_EQ(cache.speculation(Phase::decode).used, 0u);
}

TEST_F(ReadAheadTest, AnExpertWhoseGuessFailsWhileItIsWaitedForIsReported) {
  ExpertCache cache(file_.layers(), options(4, 2, tick), reader_);
  warm_up(cache);
  bad_ = {5};
  cache.read_ahead(Phase::decode, 1, std::vector{5});
  {
    // Whether the failure is known at acquire() depends on what has landed: then it is read again, and fails again.
    Lease lease = cache.acquire(1, std::vector{5}, Phase::decode, 1);
    EXPECT_THROW(lease.next(), Error);
  }
  bad_ = {};
  Lease lease = cache.acquire(1, std::vector{5}, Phase::decode, 2);
  EXPECT_EQ(drain(lease), std::vector{5});
}

// Random lookups and random guesses, right and wrong ones, decode and prefill, also for more experts than slots.
TEST_F(ReadAheadTest, ChangesNoCountNoResidentAndNoByte) {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
    stream::Reader plain_reader = file_.reader(seed);
    ExpertFile ahead_file(kShapes);  // the same bytes; its log is of these reads alone
    stream::Reader ahead_reader = ahead_file.reader(seed + 100);
    const int slots = 2 + below(6);
    ExpertCache plain(file_.layers(), options(slots, 0), plain_reader);
    ExpertCache ahead(file_.layers(), options(slots, 1 + below(4), tick), ahead_reader);
    for (std::uint64_t step = 0; step < 60; ++step) {
      for (int layer = 0; layer < plain.layers(); ++layer) {
        const int experts = plain.experts(layer);
        std::set<int> ids;
        for (int i = 1 + below(experts); i > 0; --i) ids.insert(below(2) == 0 ? below(experts) : below(3));
        const std::vector<int> wanted(ids.begin(), ids.end());
        const Phase phase = below(4) == 0 ? Phase::prefill : Phase::decode;
        std::vector<int> guess;
        for (int expert = 0; expert < experts; ++expert) {
          if (below(3) > 0 ? ids.contains(expert) : below(4) == 0) guess.push_back(expert);
        }
        std::shuffle(guess.begin(), guess.end(), random);
        if (below(8) > 0 && ahead.wants_guess(phase, layer)) ahead.read_ahead(phase, layer, guess);
        if (below(16) == 0) ahead.use_slots(1 + below(slots));
        plain.use_slots(ahead.slots_in_use(0));

        Lease a = plain.acquire(layer, wanted, phase, step);
        Lease b = ahead.acquire(layer, wanted, phase, step);
        drain(a);
        std::vector<int> seen;
        for (auto batch = b.next(); !batch.empty(); batch = b.next()) {
          for (const ReadyExpert& ready : batch) {
            EXPECT_TRUE(file_.holds(layer, ready)) << "layer " << layer << ", expert " << ready.id;
            seen.push_back(ready.id);
          }
        }
        std::sort(seen.begin(), seen.end());
        ASSERT_EQ(seen, wanted);
      }
    }
    for (int layer = 0; layer < plain.layers(); ++layer) {
      for (int expert = 0; expert < plain.experts(layer); ++expert) {
        EXPECT_EQ(plain.resident(layer, expert), ahead.resident(layer, expert));
      }
      for (const Phase phase : {Phase::prefill, Phase::decode}) {
        expect_equal(ahead.counts(layer, phase), plain.counts(layer, phase));
      }
    }
    const SpeculationCounts& counts = ahead.speculation(Phase::decode);
    EXPECT_GT(counts.used, 0u);
    EXPECT_GT(counts.reads, counts.used);
    ahead.finish_reads();
    const SpeculationCounts& prompt = ahead.speculation(Phase::prefill);
    const std::uint64_t wasted = counts.bytes_read - counts.bytes_used + prompt.bytes_read - prompt.bytes_used;
    const LookupCounts decode = ahead.counts(Phase::decode);
    EXPECT_EQ(requested_bytes(ahead_file), decode.bytes_read + ahead.counts(Phase::prefill).bytes_read + wasted);
  }
}

TEST_F(ReadAheadTest, ACacheCanGoWhileGuessesAreBeingRead) {
  {
    ExpertCache cache(file_.layers(), options(4, 3, tick), reader_);
    warm_up(cache);
    cache.read_ahead(Phase::decode, 1, std::vector{5, 2, 3});
    EXPECT_GT(reader_.outstanding(), 0u);
  }
  EXPECT_EQ(reader_.outstanding(), 0u) << "the device writes to memory that is gone";
}

}  // namespace
}  // namespace sluice::cache
