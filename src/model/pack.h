// Rewrites a checkpoint so that each routed expert is one contiguous record: one read instead of one per slice.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "cache/expert_record.h"
#include "model/checkpoint_writer.h"
#include "model/expert_layout.h"
#include "stream/checkpoint.h"

namespace sluice::model {

/// A tensor of a packed checkpoint and where its bytes are now: a slice of a file of the checkpoint that is packed.
struct PackedTensor {
  stream::TensorHeader header;
  cache::Slice source;
};

/// Everything about a packed checkpoint but its data.
struct PackPlan {
  std::vector<std::vector<PackedTensor>> shards;  // in the order of their data
  int layers = 0;                                 // with routed experts
  int experts = 0;                                // of all layers
  int ranges = 0;                                 // that an expert is read in now, the most there are

  std::size_t tensor_count() const;
};

/// Plans shards of at most `shard_bytes` of data. All other tensors come first, as they are and in their order; then,
/// in shards of their own, the experts, layer after layer and number after number, as tensors of their own
/// (ExpertLayout::part_tensors): gate, up, down; of each codes, scales, biases, bias. No expert straddles two shards.
/// Throws Error naming the checkpoint if it has no routed experts or each is read in one range already
/// (cache/part_reads.h), and the tensor if a name is taken.
PackPlan plan_packing(const stream::Checkpoint& checkpoint, std::span<const ExpertLayout> experts,
                      std::uint64_t shard_bytes = kMaxShardBytes);

/// Writes the packed checkpoint as write_checkpoint() does, with an index and with the other files of the directory of
/// `checkpoint` that hold no weights. In each shard the data begin at a multiple of kIoAlignment, so that experts of
/// whole pages are read without slack. `checkpoint` is only read, around the page cache; memory stays at some 10 MiB
/// per thread. Throws Error also if `destination` is the checkpoint's own directory or lies in it.
bool write_packed(const PackPlan& plan, const stream::Checkpoint& checkpoint, const std::filesystem::path& destination,
                  int threads, const CheckpointProgress& progress);

}  // namespace sluice::model
