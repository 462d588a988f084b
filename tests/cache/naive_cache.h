// The slot cache as plain sets and maps, to be compared with the real one operation by operation. What it cannot know,
// which reads have landed, it is told after every operation of the real one.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/memory.h"
#include "cache/eviction_policy.h"
#include "cache/expert_cache.h"

namespace sluice::cache {

struct NaiveLease {
  int layer = 0;
  Phase phase = Phase::decode;
  std::uint64_t step = 0;
  std::vector<int> waiting;  // no slot yet
  std::set<int> reading;     // pinned, not landed when the lease got hold of them
  std::set<int> ready;       // pinned, resident
  std::set<int> handed_out;  // pinned until waiting reads need the slot
  std::set<int> staying;     // of a request larger than the slots: what is left of it at the end
  std::set<int> stayed;      // handed out and staying: pinned to the end
  std::set<int> own;         // whose reads this lease started
};

class NaiveCache {
 public:
  NaiveCache(std::vector<LayerExperts> layers, int slots_per_layer, std::string_view policy) {
    for (LayerExperts& record : layers) {
      layers_.push_back({.slots = static_cast<std::size_t>(std::min(slots_per_layer, record.experts)),
                         .policy = eviction_policy(policy).create(record.experts),
                         .record = std::move(record),
                         .here = {},
                         .been = {},
                         .counts = {}});
    }
  }

  NaiveLease acquire(int layer, std::vector<int> ids, Phase phase, std::uint64_t step,
                     const std::vector<ExpertUse>& uses = {}) {
    NaiveLease lease{.layer = layer,
                     .phase = phase,
                     .step = step,
                     .waiting = {},
                     .reading = {},
                     .ready = {},
                     .handed_out = {},
                     .staying = {},
                     .stayed = {},
                     .own = {}};
    Layer& of = layers_[static_cast<std::size_t>(layer)];
    LookupCounts& counts = of.counts[static_cast<std::size_t>(phase)];
    std::sort(ids.begin(), ids.end());
    for (const int id : ids) {
      of.policy->touch(id, step, uses.empty() ? 0 : kRecentTokens);
      ++counts.lookups;
      if (of.here.contains(id)) {
        ++counts.hits;
        ++of.here[id].pins;
        (of.here[id].landed ? lease.ready : lease.reading).insert(id);
      } else {
        ++(of.been.contains(id) ? counts.misses_capacity : counts.misses_cold);
        lease.waiting.push_back(id);
      }
    }
    for (const ExpertUse& use : uses) of.policy->touch(use.expert, step, use.age);
    plan(of, lease, ids);
    start(lease);
    return lease;
  }

  /// The part of next() that comes before any waiting.
  void begin_next(NaiveLease& lease) {
    if (lease.waiting.empty()) return;
    unpin(lease.layer, lease.handed_out);
    start(lease);
    if (!lease.ready.empty() || !lease.reading.empty()) return;
    unpin(lease.layer, lease.stayed);
    start(lease);
  }

  /// The next batch of what is ready: all, or a quarter of the slots while others wait for some, leaving ones first.
  std::vector<int> portion(const NaiveLease& lease) const {
    std::vector<int> ids(lease.ready.begin(), lease.ready.end());
    std::stable_partition(ids.begin(), ids.end(), [&](int id) { return !lease.staying.contains(id); });
    const std::size_t slots = layers_[static_cast<std::size_t>(lease.layer)].slots;
    if (!lease.waiting.empty()) ids.resize(std::min(ids.size(), std::max<std::size_t>(1, slots / 4)));
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  /// Notes that `ids` were handed out.
  void hand_out(NaiveLease& lease, const std::vector<int>& ids) {
    for (const int id : ids) {
      lease.ready.erase(id);
      lease.reading.erase(id);
      (lease.staying.contains(id) ? lease.stayed : lease.handed_out).insert(id);
    }
  }

  void drop(NaiveLease& lease) {
    unpin(lease.layer, lease.ready);
    unpin(lease.layer, lease.reading);
    unpin(lease.layer, lease.handed_out);
    unpin(lease.layer, lease.stayed);
  }

  void landed(int layer, int expert) {
    Layer& of = layers_[static_cast<std::size_t>(layer)];
    of.here.at(expert).landed = true;
    of.been.insert(expert);
  }

  bool here(int layer, int expert) const { return layers_[static_cast<std::size_t>(layer)].here.contains(expert); }
  bool has_landed(int layer, int expert) const {
    return here(layer, expert) && layers_[static_cast<std::size_t>(layer)].here.at(expert).landed;
  }
  const LookupCounts& counts(int layer, Phase phase) const {
    return layers_[static_cast<std::size_t>(layer)].counts[static_cast<std::size_t>(phase)];
  }

 private:
  struct Entry {
    int pins = 0;
    bool landed = false;
  };
  struct Layer {
    std::size_t slots;
    std::unique_ptr<EvictionPolicy> policy;
    LayerExperts record;
    std::map<int, Entry> here;
    std::set<int> been;
    std::array<LookupCounts, 2> counts;
  };

  /// Of a request larger than the room: the hottest stay, but hits at most in the slots that are left by misses, which
  /// get half the room, or as many slots as experts leave, or what they need. Those that stay are read last.
  static void plan(const Layer& of, NaiveLease& lease, std::vector<int> ids) {
    std::size_t room = of.slots;
    for (const auto& [id, entry] : of.here) {
      if (entry.pins > 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) --room;
    }
    if (room == 0 || ids.size() <= room) return;
    std::vector<int> coldest_first;
    while (!ids.empty()) {
      coldest_first.push_back(of.policy->victim(ids, lease.step));
      ids.erase(std::find(ids.begin(), ids.end(), coldest_first.back()));
    }
    const std::size_t for_misses = std::max((room + 1) / 2, coldest_first.size() - room);
    std::size_t hits_left = room - std::min({lease.waiting.size(), room, for_misses});
    for (auto id = coldest_first.rbegin(); id != coldest_first.rend() && lease.staying.size() < room; ++id) {
      const bool miss = std::find(lease.waiting.begin(), lease.waiting.end(), *id) != lease.waiting.end();
      if (!miss && hits_left == 0) continue;
      if (!miss) --hits_left;
      lease.staying.insert(*id);
    }
    std::stable_partition(lease.waiting.begin(), lease.waiting.end(),
                          [&](int id) { return !lease.staying.contains(id); });
  }

  void start(NaiveLease& lease) {
    Layer& of = layers_[static_cast<std::size_t>(lease.layer)];
    LookupCounts& counts = of.counts[static_cast<std::size_t>(lease.phase)];
    while (!lease.waiting.empty()) {
      const int id = lease.waiting.front();
      if (!of.here.contains(id)) {
        if (of.here.size() == of.slots && !evict(of, lease.step)) return;
        lease.own.insert(id);
        std::uint64_t read_until = 0;  // the parts of these tests follow each other in one file
        for (int part = 0; part < of.record.parts; ++part) {
          const Slice& slice = of.record.slice(id, part);
          counts.bytes_needed += slice.bytes;
          const bool joins = part > 0 && slice.offset < of.record.slice(id, part - 1).offset +
                                                            of.record.slice(id, part - 1).bytes + kIoAlignment;
          const std::uint64_t begin = joins ? read_until : round_down(slice.offset, kIoAlignment);
          read_until = round_up(slice.offset + slice.bytes, kIoAlignment);
          counts.bytes_read += read_until - begin;
        }
      }
      ++of.here[id].pins;
      lease.reading.insert(id);
      lease.waiting.erase(lease.waiting.begin());
    }
  }

  static bool evict(Layer& of, std::uint64_t step) {
    std::vector<int> candidates;
    for (const auto& [id, entry] : of.here) {
      if (entry.landed && entry.pins == 0) candidates.push_back(id);
    }
    if (candidates.empty()) return false;
    of.here.erase(of.policy->victim(candidates, step));
    return true;
  }

  void unpin(int layer, std::set<int>& ids) {
    for (const int id : ids) --layers_[static_cast<std::size_t>(layer)].here.at(id).pins;
    ids.clear();
  }

  std::vector<Layer> layers_;
};

}  // namespace sluice::cache
