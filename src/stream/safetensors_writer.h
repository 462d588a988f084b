// Writes safetensors files as a stream: many threads produce blocks, memory stays bounded, nothing is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace sluice::stream {

/// What a header says of one tensor.
struct TensorHeader {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};

/// Bytes of a tensor's data.
std::uint64_t data_bytes(const TensorHeader& tensor);

/// A file before its data: header and places.
struct SafetensorsLayout {
  std::string header;                  // the length bytes, the JSON and its padding
  std::vector<std::uint64_t> offsets;  // of each tensor's data from the start of the file
  std::uint64_t file_bytes = 0;
};

/// Places the tensors one after the other in the given order, without holes. The header lists them by name. Spaces
/// behind it, which the format allows, make the data start at a multiple of `alignment`; with 1 there are none, as MLX
/// writes it, and the data may start at an odd byte. Names are unique.
SafetensorsLayout lay_out(std::span<const TensorHeader> tensors, std::uint64_t alignment = 1);

/// Produces bytes [offset, offset + bytes.size()) of the data of one tensor. Called from several threads at once, for
/// pieces that start and end anywhere, even inside an element. What it throws ends the writing.
using ProduceBytes = std::function<void(std::size_t tensor, std::uint64_t offset, std::span<std::byte> bytes)>;

/// Told from time to time, by the calling thread, how many bytes of the file are written. False: stop.
using WriteProgress = std::function<bool(std::uint64_t bytes)>;

/// Writes a file, around the page cache where the file system can do that, in blocks of a few MiB: each of `threads`
/// threads claims the next block, produces it and writes it. The content depends on `layout` and `produce` alone.
/// Returns false if `progress` stopped it. Throws Error naming the file when it cannot be written, and what `produce`
/// throws. A file that was not finished is left behind for the caller to remove.
bool write_safetensors(const std::filesystem::path& path, const SafetensorsLayout& layout, int threads,
                       const ProduceBytes& produce, const WriteProgress& progress);

}  // namespace sluice::stream
