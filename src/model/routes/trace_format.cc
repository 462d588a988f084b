#include "model/routes/trace_format.h"

#include <cassert>
#include <nlohmann/json.hpp>

#include "base/float16.h"

namespace sluice::model {
namespace {

template <typename Integer>
void append_little_endian(Integer value, std::string& out) {
  for (std::size_t byte = 0; byte < sizeof(Integer); ++byte) {
    out += static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * byte)) & 0xff);
  }
}

}  // namespace

std::string trace_header_line(const TraceHeader& header) {
  const nlohmann::ordered_json line{{"format", kTraceFormatName},
                                    {"version", kTraceFormatVersion},
                                    {"model", header.model},
                                    {"layers", header.layers},
                                    {"experts", header.experts},
                                    {"top_k", header.top_k},
                                    {"expert_bytes", header.expert_bytes},
                                    {"dense_bytes", header.dense_bytes}};
  // A model's name is a path, and paths need not be UTF-8.
  return line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + '\n';
}

void append_trace_record(const RouteTrace::Request& request, std::span<const std::uint16_t> ids,
                         std::span<const float> weights, int top_k, std::string& out) {
  const auto room = static_cast<std::size_t>(top_k);
  assert(ids.size() <= room && weights.size() == ids.size() && top_k <= kMaxTraceTopK);
  append_little_endian(request.step, out);
  append_little_endian(static_cast<std::uint16_t>(request.layer), out);
  append_little_endian(static_cast<std::uint8_t>(request.phase), out);
  append_little_endian(static_cast<std::uint8_t>(ids.size()), out);
  for (std::size_t i = 0; i < room; ++i) append_little_endian(i < ids.size() ? ids[i] : std::uint16_t{0}, out);
  for (std::size_t i = 0; i < room; ++i) {
    append_little_endian(i < ids.size() ? f32_to_f16(weights[i]) : std::uint16_t{0}, out);
  }
}

}  // namespace sluice::model
