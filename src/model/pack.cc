#include "model/pack.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "cache/part_reads.h"
#include "stream/checkpoint_index.h"
#include "stream/range_reader.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using stream::Checkpoint;
using stream::TensorInfo;

/// Ends of the names of files that hold weights, in this format or another, or say where they are.
constexpr std::string_view kWeightFiles[] = {".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf"};

/// Where the parts of experts start: a tensor that starts at one of these places is one, or a stack of them.
class ExpertTensors {
 public:
  explicit ExpertTensors(std::span<const ExpertLayout> experts) {
    for (const ExpertLayout& layout : experts) {
      for (const cache::Slice& slice : layout.records.slices) starts_.emplace(slice.file, slice.offset);
    }
  }
  bool contains(const TensorInfo& tensor) const {
    return tensor.bytes > 0 && starts_.count({tensor.file, tensor.offset}) > 0;
  }

 private:
  std::set<std::pair<int, std::uint64_t>> starts_;  // file and offset
};

/// Fills shards with units that are not divided.
class Shards {
 public:
  explicit Shards(std::uint64_t most) : most_(most) {}

  void add(std::vector<PackedTensor> unit) {
    std::uint64_t bytes = 0;
    for (const PackedTensor& tensor : unit) bytes += tensor.source.bytes;
    if (shards_.empty() || bytes_ + bytes > most_) begin_shard();
    bytes_ += bytes;
    std::move(unit.begin(), unit.end(), std::back_inserter(shards_.back()));
  }
  void begin_shard() {
    shards_.emplace_back();
    bytes_ = 0;
  }
  std::vector<std::vector<PackedTensor>> take() { return std::move(shards_); }

 private:
  const std::uint64_t most_;
  std::uint64_t bytes_ = 0;  // in the last one
  std::vector<std::vector<PackedTensor>> shards_;
};

std::vector<PackedTensor> tensors_of(const ExpertLayout& layout, int expert) {
  std::vector<PackedTensor> tensors;
  for (int part = 0; part < layout.records.parts; ++part) {
    const PartTensor& named = layout.part_tensors[static_cast<std::size_t>(part)];
    tensors.push_back({{named.name_of(expert), named.dtype, named.shape}, layout.records.slice(expert, part)});
  }
  return tensors;
}

void refuse_taken_names(const Checkpoint& checkpoint, const ExpertTensors& experts,
                        const std::vector<PackedTensor>& tensors) {
  for (const PackedTensor& tensor : tensors) {
    const TensorInfo* other = checkpoint.find(tensor.header.name);
    if (other == nullptr || experts.contains(*other)) continue;
    fail("{}: has a tensor '{}' beside the stack that would become it; remove one of them",
         checkpoint.directory().string(), printable(tensor.header.name));
  }
}

/// The other files of a checkpoint's directory, in order of name.
std::vector<fs::path> files_beside_weights(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    const auto ends_so = [&](std::string_view end_of_name) { return name.ends_with(end_of_name); };
    std::error_code broken_link;
    if (!at->is_regular_file(broken_link) || std::any_of(std::begin(kWeightFiles), std::end(kWeightFiles), ends_so))
      continue;
    paths.push_back(at->path());
  }
  if (error) fail("{}: cannot be listed: {}", directory.string(), error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void refuse_overlap(const fs::path& source, const fs::path& destination) {
  const fs::path from = resolve_destination(source);
  const fs::path to = resolve_destination(destination);
  if (from == to) fail("{}: is the checkpoint to be packed; name a new directory", destination.string());
  if (std::mismatch(from.begin(), from.end(), to.begin(), to.end()).first == from.end()) {
    fail("{}: lies inside the checkpoint to be packed, {}; name a new directory elsewhere", destination.string(),
         source.string());
  }
}

}  // namespace

std::size_t PackPlan::tensor_count() const {
  std::size_t count = 0;
  for (const auto& shard : shards) count += shard.size();
  return count;
}

PackPlan plan_packing(const Checkpoint& checkpoint, std::span<const ExpertLayout> experts, std::uint64_t shard_bytes) {
  const std::string directory = checkpoint.directory().string();
  if (experts.empty()) fail("{}: the model has no routed experts: there is nothing to pack", directory);
  PackPlan plan;
  plan.layers = static_cast<int>(experts.size());
  for (const ExpertLayout& layout : experts) {
    plan.experts += layout.records.experts;
    for (int e = 0; e < layout.records.experts; ++e) {
      plan.ranges = std::max(plan.ranges, cache::range_count(layout.records, e));
    }
  }
  if (plan.ranges == 1) {
    fail("{}: every expert is read in one range already: there is nothing to pack", directory);
  }
  const ExpertTensors expert_tensors(experts);
  Shards shards(shard_bytes);
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (expert_tensors.contains(tensor)) continue;
    shards.add({{{tensor.name, tensor.dtype, tensor.shape}, {tensor.file, tensor.offset, tensor.bytes}}});
  }
  shards.begin_shard();
  for (const ExpertLayout& layout : experts) {
    for (int e = 0; e < layout.records.experts; ++e) {
      std::vector<PackedTensor> tensors = tensors_of(layout, e);
      refuse_taken_names(checkpoint, expert_tensors, tensors);
      shards.add(std::move(tensors));
    }
  }
  plan.shards = shards.take();
  return plan;
}

bool write_packed(const PackPlan& plan, const Checkpoint& checkpoint, const fs::path& destination, int threads,
                  const CheckpointProgress& progress) {
  refuse_overlap(checkpoint.directory(), destination);
  const stream::RangeReader reader(checkpoint.files());
  NewCheckpoint packed;
  std::vector<stream::IndexEntry> index;
  for (const std::vector<PackedTensor>& tensors : plan.shards) {
    const std::string name = stream::shard_name(packed.shards.size() + 1, plan.shards.size());
    std::vector<stream::TensorHeader> headers;
    for (const PackedTensor& tensor : tensors) {
      headers.push_back(tensor.header);
      index.push_back({tensor.header.name, name});
    }
    packed.shards.push_back({name, stream::lay_out(headers, kIoAlignment),
                             [&tensors, &reader](std::size_t tensor, std::uint64_t offset, std::span<std::byte> bytes) {
                               const cache::Slice& source = tensors[tensor].source;
                               reader.read(source.file, source.offset + offset, bytes);
                             }});
  }
  packed.texts = {{stream::kIndexName, stream::dump_index(index, checkpoint.tensor_bytes())}};
  packed.copies = files_beside_weights(checkpoint.directory());
  packed.if_too_large = ", or name a directory on another disk";
  return write_checkpoint(packed, destination, threads, progress);
}

}  // namespace sluice::model
