// model.safetensors.index.json, parsed as untrusted bytes. Pure: bytes in, entries out; fuzzed by tests/fuzz.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::stream {

/// One entry of "weight_map": the tensor and the file that holds it.
struct IndexEntry {
  std::string tensor;
  std::string file;  // a plain file name: no directory, no control characters
};

/// The entries of "weight_map" in order of tensor name; everything else in the index is skipped. Throws Error naming
/// `file` when it is not valid JSON, has no weight_map of strings, names a tensor twice, or names a file that is not a
/// plain name in the checkpoint's own directory.
std::vector<IndexEntry> parse_index(std::span<const std::byte> json, std::string_view file);

}  // namespace sluice::stream
