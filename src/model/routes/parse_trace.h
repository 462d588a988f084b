// Routing traces from files: the program's own format and those in which others have published theirs.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "model/routes/route_trace.h"

namespace sluice::model {

/// A trace from the bytes of a file, in any of these formats, told apart by how it begins:
///  - the program's own (trace_format.h);
///  - CSV with a heading that names at least the columns phase (0 prefill, 1 decode), step, layer and expert, and
///    optionally turn and weight; lines with # before it may name model, layers, experts and sizes;
///  - JSON lines {"layers": [[ids of layer 0], ...]}, one per decoded token.
/// Cost and memory are linear in the bytes. A file that ends within its last record or line is taken without it. Throws
/// Error beginning with `file` in one printable line for anything else that does not fit, and for a trace without a
/// route.
RouteTrace parse_trace(std::span<const std::byte> bytes, std::string_view file);

/// A trace of arrays: a JSON document that names layers, experts, top_k and, for each of its "segments", where in
/// `data` its arrays `ids` (u8 or u16, [tokens, layers, top_k]) and optionally `scores` (f16 or f32, likewise) lie. All
/// tokens are decode steps. Promises and errors as above.
RouteTrace parse_array_trace(std::string_view description, std::span<const std::byte> data, std::string_view file);

/// Reads a file in one of those formats; for a trace of arrays, either of its two files (NAME.json, NAME.bin). Throws
/// Error naming the file.
RouteTrace read_trace(const std::filesystem::path& path);

}  // namespace sluice::model
