#include "model/synth/write_synthetic.h"

#include <utility>
#include <vector>

#include "stream/checkpoint_index.h"

namespace sluice::model::synth {
namespace {

/// `file` and `plan` outlive the shard.
NewShard new_shard(const PlannedFile& file, const CheckpointPlan& plan) {
  std::vector<std::uint64_t> streams;
  for (const PlannedTensor& tensor : file.tensors) streams.push_back(random_stream(tensor.random_name, plan.seed));
  return {file.name, stream::lay_out(headers_of(file)),
          [&file, streams = std::move(streams)](std::size_t tensor, std::uint64_t offset, std::span<std::byte> bytes) {
            const PlannedTensor& planned = file.tensors[tensor];
            fill_bytes(planned.fill, planned.header.dtype, streams[tensor], offset, bytes);
          }};
}

}  // namespace

bool write_synthetic(const CheckpointPlan& plan, const std::filesystem::path& destination, int threads,
                     const CheckpointProgress& progress) {
  NewCheckpoint checkpoint;
  for (const PlannedFile& file : plan.files) checkpoint.shards.push_back(new_shard(file, plan));
  checkpoint.texts = {{stream::kIndexName, plan.index}, {"config.json", plan.config}};
  checkpoint.if_too_large = ", or write fewer --layers";
  return write_checkpoint(checkpoint, destination, threads, progress);
}

}  // namespace sluice::model::synth
