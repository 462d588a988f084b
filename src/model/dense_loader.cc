#include "model/dense_loader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/float16.h"
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

/// `value` as a tensor of `type` would hold it.
float rounded(float value, DType type) {
  if (type == DType::bf16) return bf16_to_f32(f32_to_bf16(value));
  if (type == DType::f16) return f16_to_f32(f32_to_f16(value));
  return value;
}

/// FP8 with block scales rounds to bf16 anyway, weight by weight, and bf16 multiplies faster.
Conversion fp8_to_bf16(const MatrixTensors& tensors, int rows, int cols, MatrixView& target) {
  if (tensors.bias != nullptr) fail("tensor '{}': FP8 weights with a bias are not supported", tensors.bias->name);
  const kernels::Format format = kernels::plain_format(DType::bf16);
  Conversion conversion;
  conversion.format = kernels::to_string(tensors.format) + " as bf16";
  conversion.sources = {tensors.codes, tensors.scales};
  conversion.bytes = static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(code_row_bytes(format, cols));
  conversion.weights = static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(cols);
  conversion.make = [stored = tensors.format, format, rows, cols, &target](std::span<const std::byte* const> sources,
                                                                           std::byte* out) {
    const MatrixView view = kernels::make_view(stored, rows, cols, sources[0], sources[1], nullptr);
    std::vector<float> row(static_cast<std::size_t>(cols));
    auto* to = reinterpret_cast<std::uint16_t*>(out);
    for (int r = 0; r < rows; ++r) {
      kernels::dequantize_row(view, r, row.data());
      to = std::transform(row.begin(), row.end(), to, f32_to_bf16);
    }
    target = kernels::make_view(format, rows, cols, out, nullptr, nullptr);
  };
  return conversion;
}

}  // namespace

struct DenseLoader::Region {
  int file = 0;
  std::uint64_t begin = 0;  // bytes in the file
  std::uint64_t end = 0;
  std::uint64_t arena = 0;  // offset of the region's aligned window in its buffer

  std::uint64_t window_bytes() const {
    return round_up(end + kTailSlack, kIoAlignment) - round_down(begin, kIoAlignment);
  }
};

class DenseLoader::Counter {
 public:
  Counter(const DenseProgress& progress, std::uint64_t total) : progress_(progress), total_(total) { add(0); }
  void add(std::uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

 private:
  const DenseProgress& progress_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
};

DenseLoader::DenseLoader(const stream::Checkpoint& checkpoint, const Quantization& quantization)
    : checkpoint_(checkpoint), quantization_(quantization) {}

void DenseLoader::keep(const TensorInfo& tensor) {
  kept_.push_back(&tensor);
  requested_bytes_ += tensor.bytes;
}

void DenseLoader::request(const MatrixTensors& tensors, int rows, int cols, MatrixView& target) {
  if (tensors.format.mode == kernels::Mode::fp8_block) {
    convert(fp8_to_bf16(tensors, rows, cols, target));
    return;
  }
  for (const TensorInfo* tensor : {tensors.codes, tensors.scales, tensors.biases, tensors.bias}) {
    if (tensor != nullptr) keep(*tensor);
  }
  requested_weights_ += static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(cols);
  matrices_.push_back({tensors, rows, cols, &target});
}

void DenseLoader::matrix(const LinearSpec& linear, int rows, int cols, MatrixView& target) {
  request(find_matrix(checkpoint_, quantization_, linear, rows, cols), rows, cols, target);
}

void DenseLoader::stack(const std::string& path, int stack, int rows, int cols, MatrixView& target) {
  request(find_matrix(checkpoint_, quantization_, {path}, rows, cols, stack), stack * rows, cols, target);
}

std::uint64_t DenseLoader::VectorTarget::elements() const {
  std::uint64_t count = 0;
  for (const TensorInfo* tensor : tensors) count += tensor->bytes / size_of(tensor->dtype);
  return count * static_cast<std::uint64_t>(repeat);
}

const TensorInfo* DenseLoader::keep_floats(const std::string& name, int n) {
  const TensorInfo& tensor = checkpoint_.get(name);
  const bool is_float = tensor.dtype == DType::f32 || tensor.dtype == DType::f16 || tensor.dtype == DType::bf16;
  const std::uint64_t elements = tensor.bytes / size_of(tensor.dtype);
  if (!is_float || elements != static_cast<std::uint64_t>(n)) {
    fail("{}: tensor '{}' is {} with {} elements, expected {} in F32, F16 or BF16", checkpoint_.directory().string(),
         name, name_of(tensor.dtype), elements, n);
  }
  keep(tensor);
  return &tensor;
}

void DenseLoader::vector(const VectorSpec& spec, int n, std::span<const float>& target, int repeat) {
  vectors_.push_back({{keep_floats(spec.tensor, n)}, spec.plus, spec.times, repeat, 0, &target});
}

void DenseLoader::convolution(const ConvSpec& spec, int channels, std::span<const float>& target) {
  const int elements = channels / static_cast<int>(spec.weights.size()) * spec.taps;
  std::vector<const TensorInfo*> tensors;
  for (const std::string& name : spec.weights) tensors.push_back(keep_floats(name, elements));
  vectors_.push_back({std::move(tensors), 0, 1, 1, spec.taps, &target});
}

void DenseLoader::convert(Conversion conversion) {
  requested_bytes_ += conversion.bytes;
  requested_weights_ += conversion.weights;
  conversions_.push_back(std::move(conversion));
}

std::vector<DenseLoader::Region> DenseLoader::plan_regions(std::vector<const TensorInfo*> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->file, a->offset) < std::pair(b->file, b->offset);
  });
  std::vector<Region> regions;
  for (const TensorInfo* tensor : tensors) {
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

std::uint64_t DenseLoader::window_bytes(const std::vector<Region>& regions) {
  return regions.empty() ? 0 : regions.back().arena + regions.back().window_bytes();
}

std::uint64_t DenseLoader::memory_bytes() const {
  std::uint64_t bytes = window_bytes(plan_regions(kept_));
  for (const VectorTarget& target : vectors_) bytes += target.elements() * sizeof(float);
  std::uint64_t most_sources = 0;  // one conversion at a time
  for (const Conversion& conversion : conversions_) {
    bytes += round_up(conversion.bytes + kTailSlack, kIoAlignment);
    most_sources = std::max(most_sources, window_bytes(plan_regions(conversion.sources)));
  }
  return bytes + most_sources;
}

std::uint64_t DenseLoader::weight_bytes() const {
  std::vector<const TensorInfo*> unique = kept_;  // tied weights are asked for twice
  std::sort(unique.begin(), unique.end());
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
  std::uint64_t bytes = 0;
  for (const TensorInfo* tensor : unique) bytes += tensor->bytes;
  for (const Conversion& conversion : conversions_) bytes += conversion.bytes;
  return bytes;
}

std::set<std::string> DenseLoader::formats() const {
  std::set<std::string> formats;
  for (const MatrixTarget& target : matrices_) formats.insert(kernels::to_string(target.tensors.format));
  for (const Conversion& conversion : conversions_) formats.insert(conversion.format);
  return formats;
}

void DenseLoader::read_regions(std::span<const Region> regions, stream::Reader& reader, const Buffer& arena,
                               Counter& counter) {
  std::array<stream::Completion, 64> completions;
  const auto collect = [&](bool wait) {
    const std::size_t count = reader.poll(completions, wait);
    for (const stream::Completion& completion : std::span(completions).first(count)) {
      if (!completion.error.empty()) {
        const std::string error(completion.error);
        while (reader.outstanding() > 0) reader.poll(completions, true);  // the kernel still writes to the buffer
        throw Error(error);
      }
      counter.add(completion.tag);
    }
  };
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
                              arena.data() + region.arena + (at - first),
                              counted};
      reader.submit(std::span(&read, 1));
      collect(reader.outstanding() >= kMostOutstanding);
    }
  }
  while (reader.outstanding() > 0) collect(true);
}

const std::byte* DenseLoader::find(const std::vector<Region>& regions, const Buffer& arena, const TensorInfo* tensor) {
  if (tensor == nullptr) return nullptr;
  const auto after =
      std::upper_bound(regions.begin(), regions.end(), std::pair(tensor->file, tensor->offset),
                       [](const auto& key, const Region& r) { return key < std::pair(r.file, r.begin); });
  const Region& region = *std::prev(after);
  return arena.data() + region.arena + (tensor->offset - round_down(region.begin, kIoAlignment));
}

std::vector<float> DenseLoader::values_of(const VectorTarget& target, const std::vector<Region>& regions) const {
  std::vector<float> stored;
  for (const TensorInfo* tensor : target.tensors) {
    const auto n = tensor->bytes / size_of(tensor->dtype);
    const MatrixView view = kernels::make_view(kernels::plain_format(tensor->dtype), 1, static_cast<int>(n),
                                               find(regions, arena_, tensor), nullptr, nullptr);
    stored.resize(stored.size() + n);
    kernels::dequantize_row(view, 0, stored.data() + (stored.size() - n));
  }
  std::vector<float> values(target.elements());
  if (target.taps > 0) {
    const auto taps = static_cast<std::size_t>(target.taps);
    const std::size_t channels = stored.size() / taps;
    for (std::size_t i = 0; i < stored.size(); ++i) values[i % taps * channels + i / taps] = stored[i];
    return values;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = stored[i / static_cast<std::size_t>(target.repeat)];
    values[i] = target.times * (target.plus == 0 ? value : rounded(value + target.plus, target.tensors[0]->dtype));
  }
  return values;
}

void DenseLoader::load(stream::Reader& reader, const DenseProgress& progress) {
  std::uint64_t total = 0;
  const auto add_to_total = [&](const std::vector<Region>& regions) {
    for (const Region& region : regions) total += region.end - region.begin;
  };
  const std::vector<Region> regions = plan_regions(kept_);
  add_to_total(regions);
  for (const Conversion& conversion : conversions_) add_to_total(plan_regions(conversion.sources));
  Counter counter(progress, total);
  if (!regions.empty()) arena_ = Buffer::allocate(window_bytes(regions), "dense weights");
  read_regions(regions, reader, arena_, counter);
  for (const MatrixTarget& target : matrices_) {
    const MatrixTensors& tensors = target.tensors;
    *target.view = kernels::make_view(tensors.format, target.rows, target.cols, find(regions, arena_, tensors.codes),
                                      find(regions, arena_, tensors.scales), find(regions, arena_, tensors.biases));
    if (tensors.bias != nullptr) {
      target.view->bias = find(regions, arena_, tensors.bias);
      target.view->bias_type = tensors.bias->dtype;
      target.view->bias_stride = static_cast<std::int64_t>(size_of(tensors.bias->dtype));
    }
  }
  for (const VectorTarget& target : vectors_) *target.view = floats_.emplace_back(values_of(target, regions));
  for (const Conversion& conversion : conversions_) {
    const std::vector<Region> windows = plan_regions(conversion.sources);
    const Buffer read = Buffer::allocate(window_bytes(windows), "weights to convert");
    read_regions(windows, reader, read, counter);
    std::vector<const std::byte*> sources;
    for (const TensorInfo* source : conversion.sources) sources.push_back(find(windows, read, source));
    Buffer& result = converted_.emplace_back(Buffer::allocate(conversion.bytes + kTailSlack, "converted weights"));
    conversion.make(sources, result.data());
  }
}

}  // namespace sluice::model
