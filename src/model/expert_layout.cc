#include "model/expert_layout.h"

#include <fmt/core.h>

#include <utility>

#include "base/error.h"

namespace sluice::model {

using kernels::MatrixView;
using stream::TensorInfo;

namespace {

/// One column of slices: part p of every expert.
using PartSlices = std::vector<cache::Slice>;

constexpr std::string_view kNumber = "{}";

bool is_stacked(const std::string& path) { return path.find(kNumber) == std::string::npos; }

std::string numbered(std::string path, int expert) {
  if (const auto at = path.find(kNumber); at != std::string::npos) {
    path.replace(at, kNumber.size(), std::to_string(expert));
  }
  return path;
}

/// "a.b" -> "a.{}.b"
std::string with_number(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? fmt::format("{}.{}", kNumber, path)
                                  : fmt::format("{}.{}{}", path.substr(0, dot), kNumber, path.substr(dot));
}

/// The names of stacked experts where they lie one by one.
ExpertNames one_by_one(const MoeSpec& spec, const ExpertNames& stack) {
  for (const ExpertNames& names : spec.names) {
    if (!is_stacked(names.down) && names.gate_up.empty() == stack.gate_up.empty()) return names;
  }
  ExpertNames names = stack;
  for (std::string* path : {&names.gate, &names.up, &names.down, &names.gate_up}) {
    if (!path->empty()) *path = with_number(*path);
  }
  return names;
}

/// A layout that a checkpoint may have.
struct Layout {
  ExpertNames names;
  ExpertNames single;   // one by one
  ExpertNames formats;  // what a config calls the matrices
};

/// All layouts, the spec's first.
std::vector<Layout> layouts_of(const MoeSpec& spec) {
  std::vector<Layout> layouts;
  for (const ExpertNames& names : spec.names) {
    ExpertNames formats = spec.names.front();
    formats.gate_up = names.gate_up;
    layouts.push_back({names, is_stacked(names.down) ? one_by_one(spec, names) : names, std::move(formats)});
  }
  const std::size_t known = layouts.size();
  for (std::size_t i = 0; i < known; ++i) {
    if (is_stacked(layouts[i].names.down))
      layouts.push_back({layouts[i].single, layouts[i].single, layouts[i].formats});
  }
  return layouts;
}

/// Expert e of a stacked tensor [E, ...] is the contiguous e-th of E equal ranges.
PartSlices split_stack(const TensorInfo& tensor, int experts) {
  PartSlices slices;
  const std::uint64_t bytes = tensor.bytes / static_cast<std::uint64_t>(experts);
  for (int e = 0; e < experts; ++e) {
    slices.push_back({tensor.file, tensor.offset + static_cast<std::uint64_t>(e) * bytes, bytes});
  }
  return slices;
}

/// Collects the parts of a layer's experts, projection by projection.
class Collector {
 public:
  Collector(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
            const Layout& layout)
      : checkpoint_(checkpoint), quantization_(quantization), spec_(spec), layout_(layout) {}

  /// The matrix that every expert has under `name`.
  ExpertProjection add(std::string ExpertNames::*name, int rows, int cols) {
    const std::string& path = layout_.names.*name;
    const std::string& format_path = layout_.formats.*name;
    std::vector<MatrixTensors> tensors;
    const int stack = is_stacked(path) ? spec_.experts : 0;
    for (int e = 0; e < (stack > 0 ? 1 : spec_.experts); ++e) {
      const LinearSpec linear{numbered(path, e), spec_.bias};
      tensors.push_back(find_matrix(checkpoint_, quantization_, linear, rows, cols, stack, format_path));
      const MatrixTensors& first = tensors.front();
      const MatrixTensors& last = tensors.back();
      if (last.format != first.format || (spec_.bias && last.bias->dtype != first.bias->dtype)) {
        fail("{}: '{}' is {}, but expert 0 of the layer is {}; experts of a layer must share one format",
             checkpoint_.directory().string(), linear.path, to_string(last.format), to_string(first.format));
      }
    }
    ExpertProjection projection{.format = tensors.front().format, .rows = rows, .cols = cols, .stored_rows = rows};
    projection.codes = add_part(tensors, &MatrixTensors::codes, name);
    projection.scales = add_part(tensors, &MatrixTensors::scales, name);
    projection.biases = add_part(tensors, &MatrixTensors::biases, name);
    projection.bias = add_part(tensors, &MatrixTensors::bias, name);
    if (spec_.bias) projection.bias_type = tensors.front().bias->dtype;
    return projection;
  }

  std::vector<PartTensor> take_part_tensors() { return std::move(part_tensors_); }

  cache::LayerExperts records() const {
    cache::LayerExperts records;
    records.experts = spec_.experts;
    records.parts = static_cast<int>(slices_.size());
    for (int e = 0; e < spec_.experts; ++e) {
      for (const PartSlices& part : slices_) records.slices.push_back(part[static_cast<std::size_t>(e)]);
    }
    return records;
  }

 private:
  /// `tensors` holds either one stack or one entry per expert. Gives the index of the part, -1 if there is none.
  int add_part(const std::vector<MatrixTensors>& tensors, const TensorInfo* MatrixTensors::*which,
               std::string ExpertNames::*name) {
    if (tensors.front().*which == nullptr) return -1;
    const TensorInfo& first = *(tensors.front().*which);
    const std::string& path = layout_.names.*name;
    const bool stacked = is_stacked(path);
    part_tensors_.push_back({layout_.single.*name + first.name.substr(numbered(path, 0).size()),
                             first.dtype,
                             {first.shape.begin() + (stacked ? 1 : 0), first.shape.end()}});
    if (stacked) {
      slices_.push_back(split_stack(first, spec_.experts));
    } else {
      PartSlices& slices = slices_.emplace_back();
      for (const MatrixTensors& one : tensors) {
        slices.push_back({(one.*which)->file, (one.*which)->offset, (one.*which)->bytes});
      }
    }
    return static_cast<int>(slices_.size()) - 1;
  }

  const stream::Checkpoint& checkpoint_;
  const Quantization& quantization_;
  const MoeSpec& spec_;
  const Layout& layout_;
  std::vector<PartTensor> part_tensors_;
  std::vector<PartSlices> slices_;  // [parts]
};

MatrixView view_of(const ExpertProjection& p, std::span<const std::byte* const> parts) {
  if (p.rows == 0) return {};
  const auto part = [&](int index) { return index < 0 ? nullptr : parts[static_cast<std::size_t>(index)]; };
  MatrixView stored =
      kernels::make_view(p.format, p.stored_rows, p.cols, part(p.codes), part(p.scales), part(p.biases));
  if (p.bias >= 0) {
    stored.bias = part(p.bias);
    stored.bias_type = p.bias_type;
    stored.bias_stride = static_cast<std::int64_t>(size_of(p.bias_type));
  }
  MatrixView view = kernels::row_slice(stored, p.first_row, p.rows);
  view.row_stride *= p.row_step;
  view.scale_stride *= p.row_step;
  view.bias_stride *= p.row_step;
  return view;
}

Layout present_layout(const stream::Checkpoint& checkpoint, const MoeSpec& spec) {
  for (Layout& layout : layouts_of(spec)) {
    const std::string& path = layout.names.gate_up.empty() ? layout.names.up : layout.names.gate_up;
    if (has_matrix(checkpoint, numbered(path, 0))) return std::move(layout);
  }
  fail("{}: no tensor '{}.weight' nor any other layout of the routed experts of that layer",
       checkpoint.directory().string(), spec.names.front().up);
}

}  // namespace

std::string PartTensor::name_of(int expert) const { return numbered(name, expert); }

kernels::ExpertViews ExpertLayout::views(std::span<const std::byte* const> parts) const {
  return {view_of(gate, parts), view_of(up, parts), view_of(down, parts)};
}

std::uint64_t ExpertLayout::expert_bytes() const {
  std::uint64_t bytes = 0;
  for (int part = 0; part < records.parts; ++part) bytes += records.slice(0, part).bytes;
  return bytes;
}

std::uint64_t ExpertLayout::weights() const {
  std::uint64_t count = 0;
  for (const ExpertProjection& p : {gate, up, down}) {
    count += static_cast<std::uint64_t>(p.rows) * static_cast<std::uint64_t>(p.cols);
  }
  return count;
}

ExpertLayout find_experts(const stream::Checkpoint& checkpoint, const Quantization& quantization, const MoeSpec& spec,
                          int width) {
  ExpertLayout layout;
  layout.top_k = spec.top_k;
  layout.activation = spec.activation;
  const Layout present = present_layout(checkpoint, spec);
  const ExpertNames& names = present.names;
  Collector collector(checkpoint, quantization, spec, present);
  if (!names.gate_up.empty()) {
    const ExpertProjection both = collector.add(&ExpertNames::gate_up, 2 * spec.width, width);
    layout.gate = layout.up = both;
    layout.gate.rows = layout.up.rows = spec.width;
    const bool alternating = names.rows == GateUpRows::alternating;
    layout.up.first_row = alternating ? 1 : spec.width;
    layout.gate.row_step = layout.up.row_step = alternating ? 2 : 1;
  } else {
    if (!names.gate.empty()) layout.gate = collector.add(&ExpertNames::gate, spec.width, width);
    layout.up = collector.add(&ExpertNames::up, spec.width, width);
  }
  layout.down = collector.add(&ExpertNames::down, width, spec.width);
  if (layout.gate.rows > 0 && layout.gate.format != layout.up.format) {
    fail("{}: '{}' and '{}' have different formats ({} and {}), expected the same", checkpoint.directory().string(),
         names.gate, names.up, to_string(layout.gate.format), to_string(layout.up.format));
  }
  layout.records = collector.records();
  layout.part_tensors = collector.take_part_tensors();
  return layout;
}

}  // namespace sluice::model
