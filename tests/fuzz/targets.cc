#include "fuzz/targets.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/heat_file.h"
#include "model/routes/parse_trace.h"
#include "stream/checkpoint_index.h"
#include "stream/safetensors.h"

namespace sluice::fuzz {
namespace {

// Data behind the header of the imagined file: small, so that mutated offsets fall on both sides of its end.
constexpr std::uint64_t kDataBytes = 4096;

void require(bool condition, const char* promise) {
  if (!condition) throw std::logic_error(std::string("broken promise: ") + promise);
}

/// A refusal is one printable line of bounded length that begins with the file.
void check_refusal(const Error& error) {
  const std::string_view message = error.what();
  require(message.starts_with("file: "), "the message begins with the file");
  require(message.size() < 1000, "the message is of bounded length");
  const auto is_control = [](char character) { return static_cast<unsigned char>(character) < 0x20; };
  require(std::none_of(message.begin(), message.end(), is_control), "the message holds no control characters");
}

void check_tensors(const std::vector<stream::TensorInfo>& tensors, std::uint64_t data_begin) {
  std::set<std::string_view> names;
  std::uint64_t begin = data_begin;  // where the next tensor may start
  std::uint64_t last_offset = 0;
  for (const stream::TensorInfo& tensor : tensors) {
    require(names.insert(tensor.name).second, "names are unique");
    require(tensor.offset >= last_offset, "tensors are in order of offset");
    require(tensor.offset >= data_begin, "tensors lie behind the header");
    require(tensor.bytes <= kDataBytes && tensor.offset - data_begin <= kDataBytes - tensor.bytes, "inside the file");
    last_offset = tensor.offset;
    if (tensor.bytes > 0) {
      require(tensor.offset >= begin, "ranges do not overlap");
      begin = tensor.offset + tensor.bytes;
    }
    // No product here can overflow: it is compared with at most kDataBytes before each step.
    std::uint64_t elements = 1;
    bool empty = false;
    for (const std::int64_t dimension : tensor.shape) {
      require(dimension >= 0, "dimensions are not negative");
      if (dimension == 0) empty = true;
    }
    for (const std::int64_t dimension : tensor.shape) {
      if (empty) break;
      require(static_cast<std::uint64_t>(dimension) <= kDataBytes / elements, "the shape fits the bytes");
      elements *= static_cast<std::uint64_t>(dimension);
    }
    require(tensor.bytes == (empty ? 0 : elements * size_of(tensor.dtype)), "bytes are those of shape and dtype");
  }
}

void check_trace(const model::RouteTrace& trace) {
  const model::TraceHeader& header = trace.header;
  require(header.layers >= 1 && header.layers <= model::kMaxTraceLayers, "layers are bounded");
  require(header.experts >= 0 && header.experts <= model::kMaxTraceExperts, "experts are bounded");
  require(!trace.requests().empty(), "there is a route");
  std::uint32_t step = 0;
  std::size_t row = 0;
  for (const model::RouteTrace::Request& request : trace.requests()) {
    require(request.step >= step, "steps never go back");
    require(request.layer >= 0 && request.layer < header.layers, "layers are those of the header");
    require(request.first_row == row && request.rows >= 1, "requests own all rows in order");
    step = request.step;
    for (const std::size_t end = row + request.rows; row < end; ++row) {
      const auto ids = trace.ids(row);
      require(ids.size() <= static_cast<std::size_t>(header.top_k), "rows have at most top_k experts");
      for (const std::uint16_t id : ids) require(id < header.experts, "experts are those of the header");
      require(trace.weights(row).empty() || trace.weights(row).size() == ids.size(), "a weight for each expert");
    }
  }
  require(trace.log().size() == trace.requests().size(), "the log has every request");
}

}  // namespace

void safetensors_header(std::span<const std::byte> input) {
  try {
    if (input.size() >= 8) {
      const std::uint64_t length = stream::header_length(input.first<8>(), input.size(), "file");
      require(length <= input.size() - 8, "the header lies in the file");
    }
  } catch (const Error& error) {
    check_refusal(error);
  }
  try {
    check_tensors(stream::parse_header(input, 8 + input.size() + kDataBytes, "file"), 8 + input.size());
  } catch (const Error& error) {
    check_refusal(error);
  }
}

void checkpoint_index(std::span<const std::byte> input) {
  try {
    std::set<std::string_view> tensors;
    const std::vector<stream::IndexEntry> entries = stream::parse_index(input, "file");
    for (const stream::IndexEntry& entry : entries) {
      require(tensors.insert(entry.tensor).second, "tensors are unique");
      require(!entry.file.empty() && entry.file != "." && entry.file != "..", "the file is no directory");
      require(entry.file.find('/') == std::string::npos, "the file has no directory");
      require(entry.file.find('\0') == std::string::npos, "the file name has no hidden end");
    }
  } catch (const Error& error) {
    check_refusal(error);
  }
}

void route_trace(std::span<const std::byte> input) {
  try {
    check_trace(model::parse_trace(input, "file"));
  } catch (const Error& error) {
    check_refusal(error);
  }
}

void heat_file(std::span<const std::byte> input) {
  try {
    const model::Heat heat = model::parse_heat({reinterpret_cast<const char*>(input.data()), input.size()}, "file");
    for (const std::vector<double>& layer : heat.layers) {
      require(!layer.empty(), "a layer has experts");
      for (const double value : layer) require(value >= 0 && std::isfinite(value), "lookups are finite");
    }
    require(model::parse_heat(model::heat_text(heat), "own").layers == heat.layers, "what is written is read back");
  } catch (const Error& error) {
    check_refusal(error);
  }
}

void route_trace_arrays(std::span<const std::byte> input) {
  static const std::vector<std::byte> data(kDataBytes, std::byte{1});
  try {
    check_trace(model::parse_array_trace({reinterpret_cast<const char*>(input.data()), input.size()}, data, "file"));
  } catch (const Error& error) {
    check_refusal(error);
  }
}

}  // namespace sluice::fuzz
