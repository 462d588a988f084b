#include "model/weights.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"
#include "kernels/matmul.h"

namespace sluice::model {

using kernels::MatrixView;
using stream::TensorInfo;

namespace {

/// Tensors closer than this in a file are read as one region: reading 64 KiB more costs less than another request.
constexpr std::uint64_t kMergeGap = 64 * 1024;

/// Bytes of one read: large enough for the drive's full rate, small enough to keep several in flight.
constexpr std::uint64_t kReadBytes = 1 << 20;

/// Kernels may load a few bytes past the end of a matrix.
constexpr std::uint64_t kTailSlack = 64;

}  // namespace

struct DenseLoader::Region {
  int file = 0;
  std::uint64_t begin = 0;  // bytes in the file
  std::uint64_t end = 0;
  std::uint64_t arena = 0;  // offset of the region's aligned window in the arena

  std::uint64_t window_bytes() const {
    return round_up(end + kTailSlack, kIoAlignment) - round_down(begin, kIoAlignment);
  }
};

DenseLoader::DenseLoader(const stream::Checkpoint& checkpoint, const Quantization& quantization)
    : checkpoint_(checkpoint), quantization_(quantization) {}

void DenseLoader::matrix(const std::string& module, int rows, int cols, MatrixView& target) {
  const MatrixTensors tensors = find_matrix(checkpoint_, quantization_, module, rows, cols);
  for (const TensorInfo* tensor : {tensors.codes, tensors.scales, tensors.biases}) {
    if (tensor != nullptr) wanted_.push_back(tensor);
  }
  matrices_.push_back({tensors, rows, cols, &target});
}

void DenseLoader::vector(const std::string& name, int n, std::span<const float>& target) {
  const TensorInfo& tensor = checkpoint_.get(name);
  const std::string problem = kernels::format_problem(kernels::plain_format(tensor.dtype), n);
  if (tensor.shape != std::vector<std::int64_t>{n} || !problem.empty()) {
    fail("{}: tensor '{}' is {} with {} elements, expected [{}] in F32, F16 or BF16", checkpoint_.directory().string(),
         name, name_of(tensor.dtype), tensor.bytes / size_of(tensor.dtype), n);
  }
  wanted_.push_back(&tensor);
  vectors_.push_back({&tensor, &target});
}

std::vector<DenseLoader::Region> DenseLoader::plan_regions() const {
  std::vector<const TensorInfo*> sorted = wanted_;
  std::sort(sorted.begin(), sorted.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->file, a->offset) < std::pair(b->file, b->offset);
  });
  std::vector<Region> regions;
  for (const TensorInfo* tensor : sorted) {
    const std::uint64_t end = tensor->offset + tensor->bytes;
    if (!regions.empty() && regions.back().file == tensor->file && tensor->offset <= regions.back().end + kMergeGap) {
      regions.back().end = std::max(regions.back().end, end);
    } else {
      regions.push_back({tensor->file, tensor->offset, end, 0});
    }
  }
  std::uint64_t used = 0;
  for (Region& region : regions) {
    region.arena = used;
    used += region.window_bytes();
  }
  return regions;
}

std::uint64_t DenseLoader::memory_bytes() const {
  const std::vector<Region> regions = plan_regions();
  std::uint64_t bytes = regions.empty() ? 0 : regions.back().arena + regions.back().window_bytes();
  for (const VectorTarget& target : vectors_)
    bytes += target.tensor->bytes / size_of(target.tensor->dtype) * sizeof(float);
  return bytes;
}

std::uint64_t DenseLoader::tensor_bytes() const {
  std::vector<const TensorInfo*> unique = wanted_;  // tied weights are asked for twice
  std::sort(unique.begin(), unique.end());
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
  std::uint64_t bytes = 0;
  for (const TensorInfo* tensor : unique) bytes += tensor->bytes;
  return bytes;
}

void DenseLoader::read_regions(std::span<const Region> regions, stream::Reader& reader,
                               const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  std::uint64_t total = 0;
  for (const Region& region : regions) total += region.end - region.begin;
  std::uint64_t done = 0;
  std::array<stream::Completion, 64> completions;
  const auto collect = [&](bool wait) {
    const std::size_t count = reader.poll(completions, wait);
    for (const stream::Completion& completion : std::span(completions).first(count)) {
      if (!completion.error.empty()) {
        const std::string error(completion.error);
        while (reader.outstanding() > 0) reader.poll(completions, true);  // the kernel still writes to the arena
        throw Error(error);
      }
      done += completion.tag;
    }
    if (count > 0 && progress) progress(done, total);
  };
  if (progress) progress(0, total);
  constexpr std::size_t kMostOutstanding = 256;  // bounds the queue, not the drive
  for (const Region& region : regions) {
    const std::uint64_t first = round_down(region.begin, kIoAlignment);
    const std::uint64_t last = round_up(region.end, kIoAlignment);
    for (std::uint64_t at = first; at < last; at += kReadBytes) {
      const std::uint64_t length = std::min(kReadBytes, last - at);
      const std::uint64_t needed = std::min(at + length, region.end) - at;
      const std::uint64_t counted = needed - (at == first ? region.begin - first : 0);
      const stream::Read read{region.file,
                              at,
                              static_cast<std::uint32_t>(length),
                              static_cast<std::uint32_t>(needed),
                              arena_.data() + region.arena + (at - first),
                              counted};
      reader.submit(std::span(&read, 1));
      collect(reader.outstanding() >= kMostOutstanding);
    }
  }
  while (reader.outstanding() > 0) collect(true);
}

void DenseLoader::load(stream::Reader& reader, const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const std::vector<Region> regions = plan_regions();
  if (!regions.empty()) {
    arena_ = Buffer::allocate(regions.back().arena + regions.back().window_bytes(), "dense weights");
  }
  read_regions(regions, reader, progress);
  const auto address = [&](const TensorInfo* tensor) -> const std::byte* {
    if (tensor == nullptr) return nullptr;
    const auto after =
        std::upper_bound(regions.begin(), regions.end(), std::pair(tensor->file, tensor->offset),
                         [](const auto& key, const Region& r) { return key < std::pair(r.file, r.begin); });
    const Region& region = *std::prev(after);
    return arena_.data() + region.arena + (tensor->offset - round_down(region.begin, kIoAlignment));
  };
  for (const MatrixTarget& target : matrices_) {
    *target.view = kernels::make_view(target.tensors.format, target.rows, target.cols, address(target.tensors.codes),
                                      address(target.tensors.scales), address(target.tensors.biases));
  }
  for (const VectorTarget& target : vectors_) {
    const auto n = static_cast<int>(target.tensor->shape[0]);
    const MatrixView stored =
        kernels::make_view(kernels::plain_format(target.tensor->dtype), 1, n, address(target.tensor), nullptr, nullptr);
    std::vector<float>& values = floats_.emplace_back(static_cast<std::size_t>(n));
    kernels::dequantize_row(stored, 0, values.data());
    *target.view = values;
  }
}

namespace {

void request_attention(const AttentionSpec& spec, int hidden, DenseLoader& loader, AttentionWeights& weights) {
  const int q_rows = spec.heads * spec.head_dim;
  const int kv_rows = spec.kv_heads * spec.head_dim;
  loader.matrix(spec.q, q_rows, hidden, weights.q);
  loader.matrix(spec.k, kv_rows, hidden, weights.k);
  loader.matrix(spec.v, kv_rows, hidden, weights.v);
  loader.matrix(spec.o, hidden, q_rows, weights.o);
  loader.vector(spec.q_norm, spec.head_dim, weights.q_norm);
  loader.vector(spec.k_norm, spec.head_dim, weights.k_norm);
}

void request_mlp(const MlpSpec& spec, int hidden, DenseLoader& loader, MlpWeights& weights) {
  loader.matrix(spec.gate, spec.width, hidden, weights.gate);
  loader.matrix(spec.up, spec.width, hidden, weights.up);
  loader.matrix(spec.down, hidden, spec.width, weights.down);
}

}  // namespace

void request_weights(const ModelSpec& spec, DenseLoader& loader, ModelWeights& weights) {
  loader.matrix(spec.embedding, spec.vocabulary, spec.hidden, weights.embedding);
  loader.vector(spec.final_norm, spec.hidden, weights.final_norm);
  loader.matrix(spec.head, spec.vocabulary, spec.hidden, weights.head);
  weights.layers.resize(spec.layers.size());
  int moe_layers = 0;
  for (std::size_t l = 0; l < spec.layers.size(); ++l) {
    const LayerSpec& layer = spec.layers[l];
    LayerWeights& target = weights.layers[l];
    loader.vector(layer.input_norm, spec.hidden, target.input_norm);
    request_attention(layer.attention, spec.hidden, loader, target.attention);
    loader.vector(layer.post_attention_norm, spec.hidden, target.post_attention_norm);
    if (const auto* dense = std::get_if<MlpSpec>(&layer.feed_forward)) {
      request_mlp(*dense, spec.hidden, loader, target.feed_forward.emplace<MlpWeights>());
    } else {
      const auto& moe = std::get<MoeSpec>(layer.feed_forward);
      auto& moe_weights = target.feed_forward.emplace<MoeWeights>();
      moe_weights.index = moe_layers++;
      loader.matrix(moe.router, moe.experts, spec.hidden, moe_weights.router);
    }
  }
}

}  // namespace sluice::model
