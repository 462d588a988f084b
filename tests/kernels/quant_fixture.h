// Reads the golden files of tests/data/kernels: small safetensors files that we made and trust.
#pragma once

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/format.h"

namespace sluice::kernels {

class QuantFixture {
 public:
  explicit QuantFixture(const std::string& file) {
    std::ifstream in(std::string(SLUICE_SOURCE_DIR "/tests/data/kernels/") + file, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    std::uint64_t header = 0;
    std::memcpy(&header, bytes_.data(), sizeof header);
    const auto json = nlohmann::json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + static_cast<std::int64_t>(header));
    for (const auto& [name, tensor] : json.items()) {
      if (name == "__metadata__") continue;
      tensors_[name] = {8 + header + tensor["data_offsets"][0].get<std::size_t>(),
                        8 + header + tensor["data_offsets"][1].get<std::size_t>(), tensor["shape"]};
    }
  }

  const std::vector<int>& shape(const std::string& name) const { return tensors_.at(name).shape; }

  /// Where the tensor lies in the file: at any address, as in a checkpoint. Null if there is none of this name.
  const std::byte* data(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : reinterpret_cast<const std::byte*>(bytes_.data()) + found->second.begin;
  }

  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const Tensor& tensor = tensors_.at(name);
    std::vector<T> result((tensor.end - tensor.begin) / sizeof(T));
    std::memcpy(result.data(), data(name), tensor.end - tensor.begin);
    return result;
  }

 private:
  struct Tensor {
    std::size_t begin;
    std::size_t end;
    std::vector<int> shape;
  };

  std::string bytes_;
  std::map<std::string, Tensor> tensors_;
};

/// One line of index.json.
struct QuantCase {
  std::string file;
  Format format;
};

inline void PrintTo(const QuantCase& quant_case, std::ostream* out) { *out << quant_case.file; }

inline std::vector<QuantCase> quant_cases() {
  std::ifstream in(SLUICE_SOURCE_DIR "/tests/data/kernels/index.json");
  const std::map<std::string, Mode> modes = {
      {"affine", Mode::affine}, {"mxfp4", Mode::mxfp4}, {"nvfp4", Mode::nvfp4}, {"mxfp8", Mode::mxfp8}};
  const std::map<std::string, DType> types = {
      {"float32", DType::f32}, {"float16", DType::f16}, {"bfloat16", DType::bf16}, {"u8", DType::u8}};
  std::vector<QuantCase> cases;
  for (const auto& entry : nlohmann::json::parse(in)) {
    cases.push_back({entry["file"],
                     {modes.at(entry["mode"]), entry["bits"].get<std::uint8_t>(),
                      entry["group_size"].get<std::uint16_t>(), types.at(entry["scale_dtype"])}});
  }
  return cases;
}

}  // namespace sluice::kernels
