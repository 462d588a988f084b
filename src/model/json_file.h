// Configuration files: read whole, parsed as untrusted JSON, every fault named with its file and position.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

namespace sluice::model {

/// Bytes of a configuration file at most. The largest in use is a tokenizer_config.json of under 1 MB.
inline constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;

/// Containers nested deeper than this are refused: no model file comes near it, and readers may recurse.
inline constexpr int kMaxJsonDepth = 64;

/// Whether there is anything at `path`. A place that cannot be looked at counts, so that reading it names the reason.
bool file_exists(const std::filesystem::path& path);

/// The whole content of a regular file. Throws Error naming the file if it is missing, is not a regular file, is
/// larger than `max_bytes` or cannot be read.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Called with every value as soon as it is complete, scalar or container, and with the way to it: one entry per
/// level, the member's name, or "" for an array element. May move the value out. If it returns false, the value is
/// left out of the document; that is how the large tables of a tokenizer avoid becoming a tree.
using JsonVisitor = std::function<bool(std::span<const std::string> path, nlohmann::json& value)>;

/// Parses `text`. Python writes infinities and NaN as the bare words Infinity, -Infinity and NaN, and real config.json
/// files contain them, so these are accepted as numbers with that value. A member given twice keeps its last value.
/// Throws Error beginning with `name`, with line and column of the fault, in one line.
nlohmann::json parse_json(std::string_view text, std::string_view name, const JsonVisitor& visitor = {});

/// read_text_file() and parse_json() of config.json and its like.
nlohmann::json parse_json_file(const std::filesystem::path& path);

/// Rewrites each bare Infinity, -Infinity and NaN outside of strings as a string of DEL characters (U+007F) of the
/// same length: text that a JSON parser accepts, with every position unchanged. Pure; all else is left alone.
std::string quote_nonfinite_numbers(std::string_view text);

}  // namespace sluice::model
