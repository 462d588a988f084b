// model.safetensors.index.json: parsed as untrusted bytes, and written. Pure: bytes in, entries out, and back; parsing
// is fuzzed by tests/fuzz.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::stream {

inline constexpr const char* kIndexName = "model.safetensors.index.json";

/// One entry of "weight_map": the tensor and the file that holds it.
struct IndexEntry {
  std::string tensor;
  std::string file;  // a plain file name: no directory, no control characters
};

/// The entries of "weight_map" in order of tensor name; everything else in the index is skipped. Throws Error naming
/// `file` when it is not valid JSON, has no weight_map of strings, names a tensor twice, or names a file that is not a
/// plain name in the checkpoint's own directory.
std::vector<IndexEntry> parse_index(std::span<const std::byte> json, std::string_view file);

/// The text of an index. `tensor_bytes`: of all tensors.
std::string dump_index(std::span<const IndexEntry> entries, std::uint64_t tensor_bytes);

/// What the file `number` of `count` is called, from 1.
std::string shard_name(std::size_t number, std::size_t count);

}  // namespace sluice::stream
