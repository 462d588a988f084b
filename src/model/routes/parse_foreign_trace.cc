#include "model/routes/parse_foreign_trace.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/float16.h"
#include "base/text.h"
#include "model/json_file.h"
#include "model/routes/parse_trace.h"

namespace sluice::model {
namespace {

using nlohmann::json;

/// Cuts the next line off `rest`. `whole` tells whether it ended with a newline.
std::string_view take_line(std::string_view& rest, bool& whole) {
  const std::size_t end = rest.find('\n');
  whole = end != std::string_view::npos;
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(whole ? end + 1 : rest.size());
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// The number that is the whole of `text`, or nothing.
template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  return error == std::errc{} && end == last ? std::optional(value) : std::nullopt;
}

/// What comment lines before the heading say: words NAME=VALUE.
class CsvComments {
 public:
  void read(std::string_view line) {
    bool of_layer = false;
    std::uint64_t expert_bytes = 0;
    for (std::size_t at = 0; at < line.size();) {
      const std::size_t end = std::min(line.find(' ', at), line.size());
      const std::string_view word = line.substr(at, end - at);
      at = end + 1;
      const std::size_t equals = word.find('=');
      if (equals == std::string_view::npos) continue;
      const std::string_view name = word.substr(0, equals);
      const std::string_view value = word.substr(equals + 1);
      const std::uint64_t size = number<std::uint32_t>(value).value_or(0);  // of one layer: 4 GiB at most
      if (name == "model") header_.model = value.substr(value.rfind('/') + 1);
      if (name == "n_layer") header_.layers = static_cast<int>(std::min<std::uint64_t>(size, kMaxTraceLayers));
      if (name == "n_expert") header_.experts = static_cast<int>(std::min<std::uint64_t>(size, kMaxTraceExperts));
      if (name == "n_expert_used") header_.top_k = static_cast<int>(std::min<std::uint64_t>(size, kMaxTraceExperts));
      if (name == "layer") of_layer = true;
      if (name == "expert_bytes") expert_bytes = size;
      if (name == "dense_bytes" && of_layer) header_.dense_bytes += size;
    }
    if (!of_layer || expert_bytes == 0) return;
    header_.expert_bytes += expert_bytes;
    ++sized_layers_;
  }

  TraceHeader header() const {
    TraceHeader header = header_;
    if (sized_layers_ > 0) header.expert_bytes /= sized_layers_;
    return header;
  }

 private:
  TraceHeader header_;
  std::uint64_t sized_layers_ = 0;
};

/// Where the columns that matter stand.
struct CsvColumns {
  static constexpr std::size_t kMissing = SIZE_MAX;
  enum Name : std::uint8_t { turn, phase, step, layer, expert, weight, kCount };
  static constexpr std::array<std::string_view, kCount> kNames{"turn", "phase", "step", "layer", "expert", "weight"};

  CsvColumns(std::string_view heading, std::string_view file) {
    at.fill(kMissing);
    std::size_t column = 0;
    for (std::string_view rest = heading;; ++column) {
      const std::size_t end = rest.find(',');
      for (std::size_t name = 0; name < kCount; ++name) {
        if (rest.substr(0, end) == kNames[name]) at[name] = column;
      }
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
    for (const Name name : {phase, step, layer, expert}) {
      if (at[name] != kMissing) continue;
      fail("{}: is no routing trace: neither JSON, nor CSV whose heading has a column \"{}\": '{}'", file, kNames[name],
           printable(heading));
    }
  }

  std::array<std::size_t, kCount> at{};  // by Name
};

/// One line of the table: one expert of one row.
struct CsvRoute {
  std::uint32_t turn = 0, phase = 0, step = 0, layer = 0, expert = 0;
  float weight = 0;

  bool same_row(const CsvRoute& other) const {
    return turn == other.turn && phase == other.phase && step == other.step && layer == other.layer;
  }
};

/// Nothing if a needed column is missing or is no number in its range.
std::optional<CsvRoute> parse_route(std::string_view line, const CsvColumns& columns) {
  std::array<std::string_view, CsvColumns::kCount> fields;
  std::size_t column = 0;
  for (std::string_view rest = line;; ++column) {
    const std::size_t end = rest.find(',');
    for (std::size_t name = 0; name < fields.size(); ++name) {
      if (columns.at[name] == column) fields[name] = rest.substr(0, end);
    }
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  const auto field = [&](CsvColumns::Name name, std::uint32_t end) -> std::optional<std::uint32_t> {
    if (columns.at[name] == CsvColumns::kMissing) return 0;
    const auto value = number<std::uint32_t>(fields[name]);
    return value && *value < end ? value : std::nullopt;
  };
  const auto turn = field(CsvColumns::turn, UINT32_MAX);
  const auto phase = field(CsvColumns::phase, 2);
  const auto step = field(CsvColumns::step, UINT32_MAX);
  const auto layer = field(CsvColumns::layer, kMaxTraceLayers);
  const auto expert = field(CsvColumns::expert, kMaxTraceExperts);
  std::optional<float> weight = 0.0F;
  if (columns.at[CsvColumns::weight] != CsvColumns::kMissing) weight = number<float>(fields[CsvColumns::weight]);
  if (!turn || !phase || !step || !layer || !expert || !weight) return std::nullopt;
  return CsvRoute{*turn, *phase, *step, *layer, *expert, *weight};
}

/// Gathers lines into rows and rows into requests. A prompt is written layer by layer, as it was computed: its rows of
/// one layer are one request, and a chunk ends where the layers begin again.
class CsvRows {
 public:
  CsvRows(RouteTrace& trace, bool has_weights) : trace_(trace), has_weights_(has_weights) {}

  void add(const CsvRoute& route) {
    if (!ids_.empty() && !route.same_row(line_)) finish_row();
    line_ = route;
    ids_.push_back(static_cast<std::uint16_t>(route.expert));
    if (has_weights_) weights_.push_back(route.weight);
  }

  void finish_row() {
    if (ids_.empty()) return;
    const bool decode = line_.phase == 1;
    const bool first = trace_.requests().empty();
    const bool same_pass = !first && row_.turn == line_.turn && row_.phase == line_.phase &&
                           (decode ? row_.step == line_.step && row_.layer < line_.layer : row_.layer <= line_.layer);
    if (!first && !same_pass) ++step_;
    if (!same_pass || row_.layer != line_.layer) {
      trace_.begin_request(step_, static_cast<int>(line_.layer), decode ? cache::Phase::decode : cache::Phase::prefill);
    }
    trace_.add_row(ids_, weights_);
    row_ = line_;
    ids_.clear();
    weights_.clear();
  }

 private:
  RouteTrace& trace_;
  bool has_weights_;
  std::uint32_t step_ = 0;
  CsvRoute line_;                   // the last, if there are ids
  std::vector<std::uint16_t> ids_;  // of its row
  std::vector<float> weights_;      // likewise
  CsvRoute row_;                    // the last in the trace, if there is one
};

/// The experts of one layer of a JSON line.
void read_ids(const json& list, std::string_view place, std::vector<std::uint16_t>& ids) {
  if (!list.is_array()) fail("{}: a layer is not a list of experts", place);
  ids.clear();
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxTraceExperts) {
      fail("{}: an expert is not a whole number below {}", place, kMaxTraceExperts);
    }
    ids.push_back(id.get<std::uint16_t>());
  }
}

void parse_json_line(std::string_view line, std::string_view place, std::uint32_t step, RouteTrace& trace) {
  const json token = parse_json(line, place);
  const auto layers = token.find("layers");
  if (!token.is_object() || layers == token.end() || !layers->is_array()) fail("{}: has no list \"layers\"", place);
  if (layers->size() > kMaxTraceLayers) fail("{}: has {} layers, more than {}", place, layers->size(), kMaxTraceLayers);
  std::vector<std::vector<std::uint16_t>> rows(layers->size());
  for (std::size_t layer = 0; layer < rows.size(); ++layer) read_ids((*layers)[layer], place, rows[layer]);
  for (std::size_t layer = 0; layer < rows.size(); ++layer) {
    trace.begin_request(step, static_cast<int>(layer), cache::Phase::decode);
    trace.add_row(rows[layer], {});
  }
}

/// A whole number of a JSON object.
std::uint64_t whole_number(const json& object, const char* name, std::uint64_t highest, std::string_view file) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  if (found == object.end() || !found->is_number_unsigned() || found->get<std::uint64_t>() > highest) {
    fail("{}: \"{}\" is missing or not a whole number up to {}", file, name, highest);
  }
  return found->get<std::uint64_t>();
}

/// An array of a segment, [tokens, layers, top_k]: its bytes, and the size of an element.
struct TraceArray {
  std::span<const std::byte> bytes;
  std::size_t element_bytes = 0;

  std::uint32_t operator[](std::size_t index) const {
    std::uint32_t value = 0;
    for (std::size_t byte = element_bytes; byte-- > 0;) {
      value = value << 8 | std::to_integer<std::uint32_t>(bytes[index * element_bytes + byte]);
    }
    return value;
  }
};

struct NamedType {
  std::string_view name;
  std::size_t bytes;
};

std::optional<TraceArray> find_array(const json& segment, const char* name, std::span<const NamedType> types,
                                     std::uint64_t elements, std::span<const std::byte> data, std::string_view file) {
  const auto arrays = segment.find("arrays");
  if (arrays == segment.end() || !arrays->is_object()) fail("{}: a segment has no \"arrays\"", file);
  const auto array = arrays->find(name);
  if (array == arrays->end()) return std::nullopt;
  const auto dtype = array->is_object() ? array->find("dtype") : array->end();
  const auto type = std::find_if(types.begin(), types.end(), [&](const NamedType& known) {
    return array->is_object() && dtype != array->end() && *dtype == known.name;
  });
  if (type == types.end())
    fail("{}: array \"{}\" has a dtype other than {} and {}", file, name, types[0].name, types[1].name);
  const std::uint64_t offset = whole_number(*array, "offset", data.size(), file);
  const std::uint64_t bytes = whole_number(*array, "bytes", data.size(), file);
  if (bytes != elements * type->bytes || bytes > data.size() - offset) {
    fail("{}: array \"{}\" has {} bytes at {}, expected {} within the {} there are", file, name, bytes, offset,
         elements * type->bytes, data.size());
  }
  return TraceArray{data.subspan(offset, bytes), type->bytes};
}

}  // namespace

RouteTrace parse_csv_trace(std::string_view text, std::string_view file) {
  RouteTrace trace;
  CsvComments comments;
  std::string_view rest = text;
  std::string_view heading;
  std::size_t line_number = 0;
  bool whole = false;
  while (heading.empty() && !rest.empty()) {
    const std::string_view line = take_line(rest, whole);
    ++line_number;
    if (line.starts_with('#')) {
      comments.read(line);
    } else {
      heading = line;
    }
  }
  const CsvColumns columns(heading, file);
  trace.header = comments.header();
  CsvRows rows(trace, columns.at[CsvColumns::weight] != CsvColumns::kMissing);
  while (!rest.empty()) {
    const std::string_view line = take_line(rest, whole);
    ++line_number;
    if (line.empty() || line.starts_with('#')) continue;
    const std::optional<CsvRoute> route = parse_route(line, columns);
    if (route) {
      rows.add(*route);
    } else if (whole) {
      fail("{}: line {} is not a route: '{}'", file, line_number, printable(line));
    }
  }
  rows.finish_row();
  return trace;
}

RouteTrace parse_json_lines_trace(std::string_view text, std::string_view file) {
  RouteTrace trace;
  std::size_t line_number = 0;
  std::uint32_t step = 0;
  bool whole = false;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = take_line(rest, whole);
    ++line_number;
    if (line.empty()) continue;
    try {
      parse_json_line(line, fmt::format("{}: line {}", file, line_number), step++, trace);
    } catch (const Error&) {
      if (whole) throw;  // else the file ends within its last line
    }
  }
  return trace;
}

RouteTrace parse_array_trace(std::string_view description, std::span<const std::byte> data, std::string_view file) {
  const json document = parse_json(description, file);
  RouteTrace trace;
  trace.header.layers = static_cast<int>(whole_number(document, "layers", kMaxTraceLayers, file));
  trace.header.experts = static_cast<int>(whole_number(document, "experts", kMaxTraceExperts, file));
  trace.header.top_k = static_cast<int>(whole_number(document, "top_k", kMaxTraceExperts, file));
  if (const auto model = document.find("model"); model != document.end() && model->is_string()) {
    trace.header.model = model->get<std::string>();
  }
  const auto segments = document.find("segments");
  if (segments == document.end() || !segments->is_array()) fail("{}: has no list \"segments\"", file);

  constexpr std::array kIdTypes{NamedType{"u8", 1}, NamedType{"u16", 2}};
  constexpr std::array kScoreTypes{NamedType{"f16", 2}, NamedType{"f32", 4}};
  const auto top_k = static_cast<std::size_t>(trace.header.top_k);
  std::uint64_t used = 0;  // bytes of ids so far: segments do not share them, so memory is bounded by the data
  std::uint32_t step = 0;
  std::optional<bool> has_scores;
  std::vector<std::uint16_t> ids;
  std::vector<float> weights;
  for (const json& segment : *segments) {
    const std::uint64_t tokens = whole_number(segment, "tokens", data.size(), file);
    const std::uint64_t elements = tokens * static_cast<std::uint64_t>(trace.header.layers) * top_k;
    const auto id_array = find_array(segment, "ids", kIdTypes, elements, data, file);
    if (!id_array) fail("{}: a segment has no array \"ids\"", file);
    used += id_array->bytes.size();
    if (used > data.size()) fail("{}: its segments name more ids than the {} bytes of data hold", file, data.size());
    if (elements == 0) continue;
    const auto scores = find_array(segment, "scores", kScoreTypes, elements, data, file);
    if (has_scores.value_or(scores.has_value()) != scores.has_value())
      fail("{}: only some segments have \"scores\"", file);
    has_scores = scores.has_value();
    std::size_t at = 0;
    for (std::uint64_t token = 0; token < tokens; ++token, ++step) {
      for (int layer = 0; layer < trace.header.layers; ++layer) {
        ids.clear();
        weights.clear();
        for (std::size_t i = 0; i < top_k; ++i, ++at) {
          const std::uint32_t id = (*id_array)[at];
          if (id >= static_cast<std::uint32_t>(trace.header.experts)) {
            fail("{}: routes to expert {}, but a layer has {}", file, id, trace.header.experts);
          }
          ids.push_back(static_cast<std::uint16_t>(id));
          if (!scores) continue;
          const std::uint32_t bits = (*scores)[at];
          weights.push_back(scores->element_bytes == 2 ? f16_to_f32(static_cast<std::uint16_t>(bits))
                                                       : std::bit_cast<float>(bits));
        }
        trace.begin_request(step, layer, cache::Phase::decode);
        trace.add_row(ids, weights);
      }
    }
  }
  if (trace.requests().empty()) fail("{}: holds no routes", file);
  trace.complete_header();
  return trace;
}

}  // namespace sluice::model
