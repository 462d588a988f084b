// Reads the tensors of a reference safetensors file into plain vectors.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "stream/safetensors.h"

namespace sluice::model {

struct GoldenFile {
  explicit GoldenFile(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes.size() < 8) throw std::runtime_error("no reference file " + path.string());
    const auto all = std::as_bytes(std::span(bytes));
    const std::uint64_t length = stream::header_length(all.first<8>(), bytes.size(), path.string());
    for (const auto& tensor : stream::parse_header(all.subspan(8, length), bytes.size(), path.string())) {
      tensors.emplace(tensor.name, tensor);
    }
  }

  bool has(const std::string& name) const { return tensors.count(name) > 0; }

  /// Elements of an F32 or I32 tensor.
  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const stream::TensorInfo& tensor = tensors.at(name);
    std::vector<T> result(tensor.bytes / sizeof(T));
    std::memcpy(result.data(), bytes.data() + tensor.offset, tensor.bytes);
    return result;
  }

  std::string bytes;
  std::map<std::string, stream::TensorInfo> tensors;
};

}  // namespace sluice::model
