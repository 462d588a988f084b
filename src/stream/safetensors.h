// The safetensors header, parsed as untrusted bytes. Pure: bytes in, tensor list out; fuzzed by tests/fuzz.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "stream/checkpoint.h"

namespace sluice::stream {

/// Longest header accepted: the limit of the format's own library. A model of 100,000 tensors needs about 15 MB.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

/// Header length from the first 8 bytes of a file (little endian). Throws Error naming `file` when the file is
/// shorter than its header or the length is absurd.
std::uint64_t header_length(std::span<const std::byte, 8> first_bytes, std::uint64_t file_bytes, std::string_view file);

/// Parses the JSON header (without the 8 length bytes). Every tensor has a known dtype, a shape whose product times
/// the element size equals its byte range without overflow, and a range inside the file; ranges do not overlap, names
/// are unique. "__metadata__" is skipped. TensorInfo::file is left 0; offsets are absolute. Sorted by offset.
/// Throws Error naming `file` and the tensor.
std::vector<TensorInfo> parse_header(std::span<const std::byte> json, std::uint64_t file_bytes, std::string_view file);

}  // namespace sluice::stream
