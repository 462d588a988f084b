#include "model/synth/checkpoint_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "model/checkpoint_writer.h"
#include "model/json_file.h"
#include "model/synth/family.h"
#include "model/synth/layer_choice.h"
#include "model/synth/shapes.h"
#include "stream/checkpoint_index.h"

namespace sluice::model::synth {
namespace {

using kernels::Format;
using kernels::Mode;
using nlohmann::json;

constexpr Format kConverterDefaults[] = {{Mode::affine, 4, 64, DType::bf16},
                                         {Mode::mxfp4, 4, 32, DType::u8},
                                         {Mode::nvfp4, 4, 16, DType::u8},
                                         {Mode::mxfp8, 8, 32, DType::u8}};

std::string_view mode_name(Mode mode) {
  switch (mode) {
    case Mode::mxfp4:
      return "mxfp4";
    case Mode::nvfp4:
      return "nvfp4";
    case Mode::mxfp8:
      return "mxfp8";
    default:
      return "affine";
  }
}

const ModelShape& find_shape(const std::string& name) {
  std::vector<std::string_view> known;
  for (const ModelShape& shape : model_shapes()) {
    if (shape.name == name) return shape;
    known.push_back(shape.name);
  }
  fail_usage("--like: '{}' is unknown; did you mean {}? Known are {}", name, nearest(name, known),
             fmt::join(known, ", "));
}

Format choose_format(const SynthOptions& options, const Format& published) {
  if (!options.mode && !options.bits && !options.group_size) return published;
  const Mode mode = options.mode.value_or(Mode::affine);
  Format format = *std::find_if(std::begin(kConverterDefaults), std::end(kConverterDefaults),
                                [&](const Format& defaults) { return defaults.mode == mode; });
  if (options.bits) format.bits = static_cast<std::uint8_t>(*options.bits);
  if (options.group_size) format.group = static_cast<std::uint16_t>(*options.group_size);
  if (const std::string problem = kernels::format_problem(format, format.group); !problem.empty()) {
    fail_usage("--mode, --bits, --group-size: {}", problem);
  }
  return format;
}

/// The converter leaves a matrix as it is if the group size does not divide its columns. For experts that would be
/// several times the bytes anybody expects.
void refuse_plain_experts(const std::vector<PlannedTensor>& tensors, const Format& format, std::string_view model) {
  for (const PlannedTensor& tensor : tensors) {
    const std::string_view name = tensor.header.name;
    const bool expert = name.find(".switch_mlp.") != name.npos || name.find(".mlp.experts.") != name.npos;
    if (expert && name.ends_with(".weight") && tensor.header.dtype != DType::u32) {
      fail_usage("--group-size: {} does not divide the {} columns of the experts of {}; choose a smaller one",
                 format.group, tensor.header.shape.back(), model);
    }
  }
}

/// Infinities become strings that dump_config() turns into the bare words of Python's JSON.
json with_named_infinities(const json& value) {
  if (value.is_number_float() && std::isinf(value.get<double>())) return value > 0 ? "@Infinity@" : "@-Infinity@";
  json result = value;
  if (value.is_structured()) {
    for (json& element : result) element = with_named_infinities(element);
  }
  return result;
}

/// As Python writes it: keys sorted, four spaces, infinities in words.
std::string dump_config(const json& config) {
  std::string text = with_named_infinities(config).dump(4);
  for (const std::string_view word : {"\"@Infinity@\"", "\"@-Infinity@\""}) {
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word)) {
      text.replace(at, word.size(), word.substr(2, word.size() - 4));
    }
  }
  return text + "\n";
}

std::string index_text(const std::vector<PlannedFile>& files) {
  std::vector<stream::IndexEntry> entries;
  std::uint64_t total = 0;
  for (const PlannedFile& file : files) {
    for (const PlannedTensor& tensor : file.tensors) {
      entries.push_back({tensor.header.name, file.name});
      total += stream::data_bytes(tensor.header);
    }
  }
  return stream::dump_index(entries, total);
}

const Family& family_of_config(const json& config) { return family_of(config.at("model_type").get<std::string>()); }

}  // namespace

std::vector<stream::TensorHeader> headers_of(const PlannedFile& file) {
  std::vector<stream::TensorHeader> headers;
  for (const PlannedTensor& tensor : file.tensors) headers.push_back(tensor.header);
  return headers;
}

std::uint64_t CheckpointPlan::bytes() const {
  std::uint64_t sum = config.size() + index.size();
  for (const PlannedFile& file : files) sum += file.bytes;
  return sum;
}

std::size_t CheckpointPlan::tensor_count() const {
  std::size_t count = 0;
  for (const PlannedFile& file : files) count += file.tensors.size();
  return count;
}

json quantization_object(const json& config, const Format& top) {
  json quantization = {{"group_size", top.group}, {"bits", top.bits}, {"mode", mode_name(top.mode)}};
  family_of_config(config).override_formats(config, top, quantization);
  return quantization;
}

std::vector<PlannedTensor> plan_tensors(const json& config, DType float_type) {
  TensorPlan plan(config, float_type);
  family_of_config(config).tensors(config, plan);
  return plan.take();
}

std::vector<PlannedFile> split_into_files(std::vector<PlannedTensor> tensors, std::uint64_t max_bytes) {
  std::vector<PlannedFile> files;
  std::uint64_t bytes = 0;  // of data in the last file
  for (PlannedTensor& tensor : tensors) {
    const std::uint64_t more = stream::data_bytes(tensor.header);
    if (files.empty() || bytes + more > max_bytes) {
      files.emplace_back();
      bytes = 0;
    }
    bytes += more;
    files.back().tensors.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    PlannedFile& file = files[i];
    file.name = stream::shard_name(i + 1, files.size());
    std::sort(file.tensors.begin(), file.tensors.end(), [](const PlannedTensor& a, const PlannedTensor& b) {
      return random_stream(a.header.name, 0) < random_stream(b.header.name, 0);
    });
    file.bytes = stream::lay_out(headers_of(file)).file_bytes;
  }
  return files;
}

CheckpointPlan plan_checkpoint(const SynthOptions& options) {
  const ModelShape& shape = find_shape(options.like);
  const Format format = choose_format(options, shape.published);
  json config = parse_json(shape.config, shape.name);
  const Family& family = family_of_config(config);
  const std::vector<LayerKinds> layers = family.layers(config);
  const int count = options.layers.value_or(static_cast<int>(layers.size()));
  const std::vector<int> kept = choose_layers(layers, count, shape.name);
  if (kept.size() < layers.size()) family.keep_layers(config, kept);
  config["quantization"] = config["quantization_config"] = quantization_object(config, format);

  std::vector<PlannedTensor> tensors = plan_tensors(config, DType::bf16);
  refuse_plain_experts(tensors, format, shape.name);
  CheckpointPlan plan;
  plan.files = split_into_files(std::move(tensors), kMaxShardBytes);
  plan.config = dump_config(config);
  plan.index = index_text(plan.files);
  plan.layers = count;
  plan.seed = options.seed;
  return plan;
}

}  // namespace sluice::model::synth
