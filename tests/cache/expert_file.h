// A scripted device with random bytes that hold the experts of several layers, as a checkpoint does: part by part,
// experts stacked, nothing aligned; or expert by expert, parts side by side.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "cache/expert_cache.h"
#include "stream/fake_engine.h"
#include "stream/reader.h"
#include "stream/scratch.h"

namespace sluice::cache {

class ExpertFile {
 public:
  struct LayerShape {
    int experts;
    std::vector<std::uint64_t> part_bytes;
  };

  enum class Order { stacked, by_expert };

  explicit ExpertFile(const std::vector<LayerShape>& shapes, Order order = Order::stacked) {
    std::uint64_t offset = 1237;  // as if behind a header of odd length
    for (const LayerShape& shape : shapes) {
      LayerExperts layer{.experts = shape.experts, .parts = static_cast<int>(shape.part_bytes.size()), .slices = {}};
      for (int expert = 0; expert < shape.experts; ++expert) {
        std::uint64_t tensor = offset;
        for (const std::uint64_t bytes : shape.part_bytes) {
          if (order == Order::by_expert) {
            layer.slices.push_back({0, offset, bytes});
            offset += bytes;
            continue;
          }
          layer.slices.push_back({0, tensor + static_cast<std::uint64_t>(expert) * bytes, bytes});
          tensor += static_cast<std::uint64_t>(shape.experts) * bytes + 3;
        }
      }
      offset = layer.slices.back().offset + layer.slices.back().bytes + 11;
      layers_.push_back(std::move(layer));
    }
    // The file ends with the last slice, so that its window reaches past the end.
    const Slice& last = layers_.back().slices.back();
    device_.content = stream::random_bytes(last.offset + last.bytes, 2024);
  }

  const std::vector<LayerExperts>& layers() const { return layers_; }

  stream::FakeDevice& device() { return device_; }

  /// The same bytes in a file on a real disk.
  std::filesystem::path write() const { return scratch_.write("real", device_.content); }

  /// A reader of this file from the fake device; see FakeEngine for the order. The file outlives it.
  stream::Reader reader(std::uint64_t seed, stream::FakeEngine::Script script = {}) {
    constexpr unsigned kDepth = 16;  // less than one layer's misses, so that reads queue up
    stream::Reader reader(std::make_unique<stream::FakeEngine>(device_, kDepth, std::move(script), seed), false);
    reader.add_file(scratch_.write("experts", "the engine has its own copy"));
    return reader;
  }

  /// Whether `ready` holds exactly the bytes of its expert.
  bool holds(int layer, const ReadyExpert& ready) const {
    const LayerExperts& record = layers_[static_cast<std::size_t>(layer)];
    if (ready.parts.size() != static_cast<std::size_t>(record.parts)) return false;
    for (int part = 0; part < record.parts; ++part) {
      const Slice& slice = record.slice(ready.id, part);
      if (std::memcmp(ready.parts[static_cast<std::size_t>(part)], device_.content.data() + slice.offset,
                      slice.bytes) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  std::vector<LayerExperts> layers_;
  stream::FakeDevice device_;
  stream::ScratchDirectory scratch_;
};

/// The ids of a batch, in its order.
inline std::vector<int> ids_of(std::span<const ReadyExpert> batch) {
  std::vector<int> ids;
  for (const ReadyExpert& ready : batch) ids.push_back(ready.id);
  return ids;
}

/// The ids of all batches that are left in a lease, in their order.
inline std::vector<int> drain(Lease& lease) {
  std::vector<int> all;
  for (auto batch = lease.next(); !batch.empty(); batch = lease.next()) {
    for (const ReadyExpert& ready : batch) all.push_back(ready.id);
  }
  return all;
}

inline void expect_equal(const LookupCounts& is, const LookupCounts& expected) {
  EXPECT_EQ(is.lookups, expected.lookups);
  EXPECT_EQ(is.hits, expected.hits);
  EXPECT_EQ(is.misses_cold, expected.misses_cold);
  EXPECT_EQ(is.misses_capacity, expected.misses_capacity);
  EXPECT_EQ(is.bytes_needed, expected.bytes_needed);
  EXPECT_EQ(is.bytes_read, expected.bytes_read);
}

}  // namespace sluice::cache
