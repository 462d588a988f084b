// The cache beside a naive model of it, over random traces: several leases at once, reads that land in any order,
// unions larger than the slots.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cache/expert_cache.h"
#include "cache/expert_file.h"
#include "cache/naive_cache.h"

namespace sluice::cache {
namespace {

struct Setting {
  int slots;
  std::string policy;
  unsigned seed;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) {
  return out << setting.slots << " slots, " << setting.policy << ", seed " << setting.seed;
}

// A lease of both caches, and what it has handed out and still guarantees.
struct Pair {
  Lease real;
  NaiveLease naive;
  std::vector<ReadyExpert> held;
};

class CacheBesideModel : public ::testing::TestWithParam<Setting> {
 protected:
  int random_below(int end) { return std::uniform_int_distribution<int>(0, end - 1)(random_); }

  // Routes drift: half of the experts come from a small favoured range, so that there are hits to speak of.
  std::vector<int> random_ids(int experts) {
    std::set<int> ids;
    const int count = 1 + random_below(random_below(4) == 0 ? experts : std::min(experts, 5));
    while (static_cast<int>(ids.size()) < count) {
      ids.insert(random_below(2) == 0 ? random_below(experts)
                                      : (static_cast<int>(step_ / 16) + random_below(4)) % experts);
      if (random_below(8) == 0) break;
    }
    std::vector<int> shuffled(ids.begin(), ids.end());
    std::shuffle(shuffled.begin(), shuffled.end(), random_);
    return shuffled;
  }

  void acquire() {
    const int layer = random_below(real_.layers());
    const std::vector<int> ids = random_ids(real_.experts(layer));
    const Phase phase = random_below(3) == 0 ? Phase::prefill : Phase::decode;
    std::vector<ExpertUse> uses;
    if (phase == Phase::prefill) {
      const auto row_ids = [&](std::size_t row) { return std::span(ids).subspan(row, 1); };
      for_recent_uses(ids.size(), row_ids, [&](ExpertUse use) { uses.push_back(use); });
    }
    leases_.emplace_back(
        new Pair{real_.acquire(layer, ids, phase, step_, uses), naive_.acquire(layer, ids, phase, step_, uses), {}});
    const NaiveLease& lease = leases_.back()->naive;
    EXPECT_EQ(leases_.back()->real.all_resident(), lease.waiting.empty() && lease.reading.empty());
  }

  void next(Pair& pair) {
    const int layer = pair.naive.layer;
    if (!pair.naive.waiting.empty()) pair.held.clear();
    naive_.begin_next(pair.naive);
    if (pair.naive.ready.empty() && pair.naive.reading.empty() && !pair.naive.waiting.empty()) {
      EXPECT_THROW(pair.real.next(), Error) << "every slot is pinned by other leases";
      return;
    }
    const std::span<const ReadyExpert> batch = pair.real.next();
    observe_landings();
    if (pair.naive.ready.empty()) {
      const bool done = pair.naive.reading.empty();
      for (const int id : pair.naive.reading) {
        if (naive_.has_landed(layer, id)) pair.naive.ready.insert(id);
      }
      EXPECT_EQ(pair.naive.ready.empty(), done);
      for (const int id : pair.naive.ready) pair.naive.reading.erase(id);
    }
    const std::vector<int> expected = naive_.portion(pair.naive);
    EXPECT_EQ(ids_of(batch), expected);
    naive_.hand_out(pair.naive, expected);
    for (const ReadyExpert& ready : batch) {
      check_generation(layer, ready);
      pair.held.push_back(ready);
    }
  }

  void drop(std::size_t index) {
    NaiveLease naive = std::move(leases_[index]->naive);
    leases_.erase(leases_.begin() + static_cast<std::ptrdiff_t>(index));
    for (const int id : naive.reading) {
      if (naive.own.contains(id)) {
        EXPECT_TRUE(real_.resident(naive.layer, id)) << "a dropped lease waits for its reads, and keeps what landed";
      }
    }
    observe_landings();
    naive_.drop(naive);
  }

  void observe_landings() {
    for (int layer = 0; layer < real_.layers(); ++layer) {
      for (int expert = 0; expert < real_.experts(layer); ++expert) {
        if (real_.resident(layer, expert) && naive_.here(layer, expert)) naive_.landed(layer, expert);
      }
    }
  }

  void check_generation(int layer, const ReadyExpert& ready) {
    const auto [known, inserted] = expert_of_.try_emplace({layer, ready.slot, ready.generation}, ready.id);
    EXPECT_EQ(known->second, ready.id) << "slot " << ready.slot << " kept its generation for another expert";
  }

  void check_everything() {
    for (int layer = 0; layer < real_.layers(); ++layer) {
      for (int expert = 0; expert < real_.experts(layer); ++expert) {
        EXPECT_EQ(real_.resident(layer, expert), naive_.has_landed(layer, expert)) << layer << ", expert " << expert;
      }
      for (const Phase phase : {Phase::prefill, Phase::decode}) {
        const LookupCounts& real = real_.counts(layer, phase);
        expect_equal(real, naive_.counts(layer, phase));
        EXPECT_EQ(real.hits + real.misses_cold + real.misses_capacity, real.lookups);
      }
    }
    for (const auto& pair : leases_) {
      for (const ReadyExpert& ready : pair->held) {
        EXPECT_TRUE(file_.holds(pair->naive.layer, ready)) << "layer " << pair->naive.layer << ", expert " << ready.id;
      }
    }
  }

  std::mt19937 random_{GetParam().seed};
  std::uint64_t step_ = 0;
  // Layers 0 and 2 share a size class, and layer 1 has fewer experts than others have slots.
  ExpertFile file_{{{12, {5000, 313, 4096}}, {5, {700, 9001}}, {12, {5000, 313, 4096}}}};
  stream::Reader reader_ = file_.reader(GetParam().seed);
  ExpertCache real_{file_.layers(), {.slots_per_layer = GetParam().slots, .policy = GetParam().policy}, reader_};
  NaiveCache naive_{file_.layers(), GetParam().slots, GetParam().policy};
  std::map<std::tuple<int, int, std::uint32_t>, int> expert_of_;  // (layer, slot, generation) -> expert
  std::vector<std::unique_ptr<Pair>> leases_;
};

TEST_P(CacheBesideModel, AgreesAfterEveryOperation) {
  for (int operation = 0; operation < 600 && !HasFailure(); ++operation) {
    step_ += static_cast<std::uint64_t>(random_below(2));
    const int choice = random_below(8);
    if (leases_.empty() || (choice < 3 && leases_.size() < 4)) {
      acquire();
    } else if (choice == 3) {
      drop(static_cast<std::size_t>(random_below(static_cast<int>(leases_.size()))));
    } else {
      next(*leases_[static_cast<std::size_t>(random_below(static_cast<int>(leases_.size())))]);
    }
    check_everything();
  }
  while (!leases_.empty()) drop(0);
  check_everything();
  EXPECT_EQ(reader_.outstanding(), 0u);
  std::uint64_t asked = 0;
  for (const stream::IoOp& op : file_.device().log) asked += op.length;
  EXPECT_EQ(real_.counts(Phase::prefill).bytes_read + real_.counts(Phase::decode).bytes_read, asked);
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const PolicyEntry& policy : eviction_policies()) {
    for (const int slots : {1, 2, 3, 4, 7, 12, 40}) {
      for (unsigned seed = 1; seed <= 3; ++seed) all.push_back({slots, std::string(policy.name), seed});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Settings, CacheBesideModel, ::testing::ValuesIn(settings()));

}  // namespace
}  // namespace sluice::cache
