#include "model/packing_probe.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"
#include "cache/expert_cache.h"
#include "cache/part_reads.h"

namespace sluice::model {
namespace {

/// Of a burst, unless a single expert is larger.
constexpr std::uint64_t kMostBurstBytes = 64 * kMiB;

struct Measured {
  double bytes = 0;
  double seconds = 0;

  double rate() const { return seconds > 0 ? bytes / seconds : 0; }
};

class Bursts {
 public:
  Bursts(stream::Reader& reader, std::span<const stream::FileInfo> files, std::uint64_t seed,
         const stream::Clock& clock, std::uint64_t capacity)
      : reader_(reader), files_(files), random_(seed), clock_(clock), capacity_(capacity) {
    count_ = static_cast<int>(std::clamp<std::uint64_t>(kMostBurstBytes / capacity, 1, kBurstExperts));
    memory_ = Buffer::allocate(static_cast<std::uint64_t>(count_) * capacity, "packing probe");
    memory_.prefault();  // or the first reads would be charged for the page faults
  }

  /// Experts of a layer as they lie.
  void read_experts(const cache::LayerExperts& layer, Measured& measured) {
    std::vector<int> chosen(static_cast<std::size_t>(layer.experts));
    std::iota(chosen.begin(), chosen.end(), 0);
    std::shuffle(chosen.begin(), chosen.end(), random_);
    chosen.resize(std::min(chosen.size(), static_cast<std::size_t>(count_)));
    read(layer, chosen, measured);
  }

  /// As many records of `bytes`, at multiples of it, as packed ones lie.
  void read_records(std::uint64_t bytes, Measured& measured) {
    std::uint64_t places = 0;
    for (const stream::FileInfo& file : files_) places += file.bytes / bytes;
    cache::LayerExperts records{count_, 1, {}};
    for (int i = 0; i < count_; ++i) {
      std::uint64_t place = std::uniform_int_distribution<std::uint64_t>(0, places - 1)(random_);
      std::size_t file = 0;
      while (place >= files_[file].bytes / bytes) place -= files_[file++].bytes / bytes;
      records.slices.push_back({static_cast<int>(file), place * bytes, bytes});
    }
    std::vector<int> all(static_cast<std::size_t>(count_));
    std::iota(all.begin(), all.end(), 0);
    read(records, all, measured);
  }

 private:
  void read(const cache::LayerExperts& layer, std::span<const int> chosen, Measured& measured) {
    const std::vector<int> order = cache::file_order(layer);
    std::vector<const std::byte*> parts(static_cast<std::size_t>(layer.parts));
    std::vector<stream::Read> reads;
    std::byte* dest = memory_.data();
    for (const int expert : chosen) {
      cache::append_expert_reads(layer, order, expert, dest, 0, parts.data(), reads);
      dest += capacity_;
      for (int part = 0; part < layer.parts; ++part) {
        measured.bytes += static_cast<double>(layer.slice(expert, part).bytes);
      }
    }
    const double begin = clock_();
    reader_.submit(reads);
    std::array<stream::Completion, 32> done;
    while (reader_.outstanding() > 0) {
      const std::size_t count = reader_.poll(done, true);
      for (std::size_t i = 0; i < count; ++i) {
        if (!done[i].error.empty()) fail("{}", done[i].error);
      }
    }
    measured.seconds += clock_() - begin;
  }

  stream::Reader& reader_;
  const std::span<const stream::FileInfo> files_;
  std::mt19937_64 random_;
  const stream::Clock& clock_;
  const std::uint64_t capacity_;  // of the place of one expert
  int count_;                     // experts in a burst
  Buffer memory_;
};

}  // namespace

std::optional<PackingRates> probe_packing(std::span<const ExpertLayout> experts,
                                          std::span<const stream::FileInfo> files, stream::Reader& reader,
                                          const PackingProbeOptions& options, const stream::Clock& clock) {
  PackingRates rates;
  std::vector<const ExpertLayout*> layers;  // whose experts lie in slices
  std::uint64_t capacity = 0;
  std::uint64_t largest_file = 0;
  for (const stream::FileInfo& file : files) largest_file = std::max(largest_file, file.bytes);
  for (const ExpertLayout& layout : experts) {
    const int slices = cache::range_count(layout.records, 0);
    if (slices == 1 || layout.expert_bytes() > largest_file) continue;
    layers.push_back(&layout);
    rates.slices = std::max(rates.slices, slices);
    capacity = std::max(capacity, cache::slot_capacity(layout.records));
  }
  if (layers.empty()) return std::nullopt;

  Bursts bursts(reader, files, options.seed, clock, capacity);
  Measured scattered, record;
  const double begin = clock();
  for (std::size_t burst = 0; burst == 0 || clock() - begin < options.seconds; ++burst) {
    // Evenly over the layers and so over the files, whatever the time allows: the step has no factor in common with
    // most numbers of layers.
    constexpr std::size_t kStep = 37;
    const ExpertLayout& layout = *layers[burst * kStep % layers.size()];
    bursts.read_experts(layout.records, scattered);
    bursts.read_records(layout.expert_bytes(), record);
  }
  rates.scattered = scattered.rate();
  rates.record = record.rate();
  return rates;
}

}  // namespace sluice::model
