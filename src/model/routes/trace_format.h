// The file that --route-trace writes: docs/route-trace.md. One line of JSON, then records of one size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/routes/route_trace.h"

namespace sluice::model {

inline constexpr std::string_view kTraceFormatName = "sluice-route-trace";
inline constexpr int kTraceFormatVersion = 1;

/// Bytes of a record: step u32, layer u16, phase u8, number of experts u8, then top_k ids u16 and top_k weights f16,
/// all little-endian. Places behind the number of experts are zero.
constexpr std::size_t trace_record_bytes(int top_k) { return 8 + 4 * static_cast<std::size_t>(top_k); }

/// More experts per row do not fit into a record's count.
inline constexpr int kMaxTraceTopK = 255;

/// The first line, with its newline.
std::string trace_header_line(const TraceHeader& header);

/// Appends one record. Weights that f16 cannot hold become infinite.
void append_trace_record(const RouteTrace::Request& request, std::span<const std::uint16_t> ids,
                         std::span<const float> weights, int top_k, std::string& out);

}  // namespace sluice::model
