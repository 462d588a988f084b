#include "model/routes/parse_trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/float16.h"
#include "base/text.h"
#include "model/json_file.h"
#include "model/routes/parse_foreign_trace.h"
#include "model/routes/trace_format.h"

namespace sluice::model {
namespace {

using nlohmann::json;

// A header line is a few hundred bytes; without its newline in this many, the file is something else.
constexpr std::size_t kMaxHeaderBytes = 64 * 1024;

// Traces are read whole; a decoded token of a large model takes 3 KB.
constexpr std::uint64_t kMaxTraceBytes = std::uint64_t{4} << 30;

std::uint64_t member(const json& object, const char* name, std::uint64_t lowest, std::uint64_t highest,
                     std::string_view file) {
  const auto found = object.find(name);
  if (found == object.end()) fail("{}: the header has no \"{}\"", file, name);
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() < lowest || found->get<std::uint64_t>() > highest) {
    fail("{}: \"{}\" of the header is {}, expected a whole number from {} to {}", file, name,
         printable(found->dump(-1, ' ', true, json::error_handler_t::replace)), lowest, highest);
  }
  return found->get<std::uint64_t>();
}

TraceHeader parse_header_line(const json& line, std::string_view file) {
  constexpr auto kMaxBytes = std::uint64_t{1} << 62;
  if (const std::uint64_t version = member(line, "version", 0, kMaxBytes, file); version != kTraceFormatVersion) {
    fail("{}: is of version {} of the format, expected {}; a newer program wrote it", file, version,
         kTraceFormatVersion);
  }
  TraceHeader header;
  header.layers = static_cast<int>(member(line, "layers", 1, kMaxTraceLayers, file));
  header.experts = static_cast<int>(member(line, "experts", 1, kMaxTraceExperts, file));
  header.top_k = static_cast<int>(
      member(line, "top_k", 1, static_cast<std::uint64_t>(std::min(header.experts, kMaxTraceTopK)), file));
  header.expert_bytes = member(line, "expert_bytes", 0, kMaxBytes, file);
  header.dense_bytes = member(line, "dense_bytes", 0, kMaxBytes, file);
  const auto model = line.find("model");
  if (model == line.end() || !model->is_string()) fail("{}: \"model\" of the header is missing or not text", file);
  header.model = model->get<std::string>();
  return header;
}

std::uint32_t little_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

/// The records behind the header line.
RouteTrace parse_records(TraceHeader header, std::span<const std::byte> bytes, std::string_view file) {
  RouteTrace trace;
  trace.header = std::move(header);
  const auto top_k = static_cast<std::size_t>(trace.header.top_k);
  const std::size_t record_bytes = trace_record_bytes(trace.header.top_k);
  std::vector<std::uint16_t> ids;
  std::vector<float> weights;
  std::optional<RouteTrace::Request> last;
  for (std::size_t record = 0; (record + 1) * record_bytes <= bytes.size(); ++record) {
    const auto at = bytes.subspan(record * record_bytes, record_bytes);
    RouteTrace::Request request;
    request.step = little_endian(at.subspan(0, 4));
    request.layer = static_cast<int>(little_endian(at.subspan(4, 2)));
    const std::uint32_t phase = little_endian(at.subspan(6, 1));
    const std::uint32_t count = little_endian(at.subspan(7, 1));
    if (request.layer >= trace.header.layers) {
      fail("{}: record {} is of layer {}, but there are {}", file, record, request.layer, trace.header.layers);
    }
    if (phase > 1) fail("{}: record {} has phase {}, expected 0 (prefill) or 1 (decode)", file, record, phase);
    if (count > top_k) fail("{}: record {} has {} experts, expected at most {}", file, record, count, top_k);
    request.phase = phase == 0 ? cache::Phase::prefill : cache::Phase::decode;
    ids.clear();
    weights.clear();
    for (std::size_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<std::uint16_t>(little_endian(at.subspan(8 + 2 * i, 2))));
      weights.push_back(f16_to_f32(static_cast<std::uint16_t>(little_endian(at.subspan(8 + 2 * (top_k + i), 2)))));
      if (ids.back() >= trace.header.experts) {
        fail("{}: record {} routes to expert {}, but a layer has {}", file, record, ids.back(), trace.header.experts);
      }
    }
    if (last && request.step < last->step) {
      fail("{}: record {} is of step {}, after one of step {}", file, record, request.step, last->step);
    }
    const bool same =
        last && request.step == last->step && request.layer == last->layer && request.phase == last->phase;
    if (!same) trace.begin_request(request.step, request.layer, request.phase);
    last = request;
    trace.add_row(ids, weights);
  }
  return trace;
}

}  // namespace

RouteTrace parse_trace(std::span<const std::byte> bytes, std::string_view file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string_view start = text.substr(0, kMaxHeaderBytes);
  const std::string_view first_line = start.substr(0, start.find('\n'));
  RouteTrace trace;
  if (text.starts_with('{')) {
    const json line = parse_json(first_line, file);
    if (line.is_object() && line.contains("format")) {
      if (line["format"] != kTraceFormatName) fail("{}: is no routing trace: its \"format\" is another", file);
      if (first_line.size() == text.size()) fail("{}: ends within its first line", file);
      trace = parse_records(parse_header_line(line, file), bytes.subspan(first_line.size() + 1), file);
    } else {
      trace = parse_json_lines_trace(text, file);
    }
  } else {
    trace = parse_csv_trace(text, file);
  }
  if (trace.requests().empty()) fail("{}: holds no routes", file);
  trace.complete_header();
  return trace;
}

RouteTrace read_trace(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".bin" || extension == ".json") {
    const std::filesystem::path json_path = std::filesystem::path(path).replace_extension(".json");
    const std::filesystem::path data_path = std::filesystem::path(path).replace_extension(".bin");
    if (file_exists(json_path) && file_exists(data_path)) {
      const std::string data = read_text_file(data_path, kMaxTraceBytes);
      return parse_array_trace(read_text_file(json_path, kMaxConfigBytes), std::as_bytes(std::span(data)),
                               json_path.string());
    }
  }
  const std::string text = read_text_file(path, kMaxTraceBytes);
  return parse_trace(std::as_bytes(std::span(text)), path.string());
}

}  // namespace sluice::model
