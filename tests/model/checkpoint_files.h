// Checkpoints in memory, to be rewritten into other layouts: tensors by name, and the config.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/float16.h"
#include "kernels/matmul.h"
#include "model/quantization.h"
#include "stream/checkpoint.h"

namespace sluice::model {

using nlohmann::json;

struct Tensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::string bytes;

  std::size_t elements() const { return bytes.size() / size_of(dtype); }
};

inline Tensor bf16_tensor(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  Tensor tensor{DType::bf16, std::move(shape), std::string(values.size() * 2, '\0')};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = f32_to_bf16(values[i]);
    std::memcpy(&tensor.bytes[2 * i], &bits, 2);
  }
  return tensor;
}

inline Tensor f32_tensor(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  Tensor tensor{DType::f32, std::move(shape), std::string(values.size() * 4, '\0')};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

/// The elements of a float tensor.
inline std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> values(tensor.elements());
  const auto n = static_cast<int>(values.size());
  kernels::dequantize_row(kernels::make_view(kernels::plain_format(tensor.dtype), 1, n,
                                             reinterpret_cast<const std::byte*>(tensor.bytes.data()), nullptr, nullptr),
                          0, values.data());
  return values;
}

/// A new empty directory, removed when dropped.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = ::testing::TempDir() + "sluice_model_XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct CheckpointFiles {
  json config;
  std::map<std::string, Tensor> tensors;

  /// A fixture of the repository.
  static CheckpointFiles read(const std::string& fixture) {
    const auto directory = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/models" / fixture;
    CheckpointFiles files;
    files.config = Config::load(directory).object();
    const auto checkpoint = stream::Checkpoint::open(directory);
    for (const stream::TensorInfo& info : checkpoint.tensors()) {
      std::ifstream file(checkpoint.files()[static_cast<std::size_t>(info.file)].path, std::ios::binary);
      file.seekg(static_cast<std::streamoff>(info.offset));
      Tensor tensor{info.dtype, info.shape, std::string(info.bytes, '\0')};
      file.read(tensor.bytes.data(), static_cast<std::streamsize>(info.bytes));
      files.tensors[info.name] = std::move(tensor);
    }
    return files;
  }

  /// Writes config.json and one safetensors file. Data begin at an odd offset, as files of MLX may.
  void write(const std::filesystem::path& directory) const {
    json header = json::object();
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      header[name] = {{"dtype", name_of(tensor.dtype)},
                      {"shape", tensor.shape},
                      {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
      data += tensor.bytes;
    }
    std::string text = header.dump();
    if (text.size() % 2 == 0) text += ' ';
    const std::uint64_t length = text.size();
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    std::ofstream(directory / "model.safetensors", std::ios::binary) << file << text << data;
    std::ofstream(directory / "config.json") << config.dump();
  }

  Tensor take(const std::string& name) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw std::logic_error("no tensor " + name);
    Tensor tensor = std::move(found->second);
    tensors.erase(found);
    return tensor;
  }

  /// Names that contain `part`.
  std::vector<std::string> names(const std::string& part) const {
    std::vector<std::string> found;
    for (const auto& [name, tensor] : tensors) {
      if (name.find(part) != std::string::npos) found.push_back(name);
    }
    return found;
  }

  /// Replaces `from`, wherever it stands in a name, by `to`.
  void rename(const std::string& from, const std::string& to) {
    for (const std::string& name : names(from)) {
      std::string changed = name;
      changed.replace(name.find(from), from.size(), to);
      tensors[changed] = take(name);
    }
  }

  /// Puts `prefix` in front of every name.
  void prefix(const std::string& prefix) {
    std::map<std::string, Tensor> renamed;
    for (auto& [name, tensor] : tensors) renamed[prefix + name] = std::move(tensor);
    tensors = std::move(renamed);
  }

  /// Splits stacks PREFIX`stack`.PART[.SUFFIX] into PREFIX`one`.E.RENAMED[.SUFFIX], with `parts` the new names.
  void unstack(const std::string& stack, const std::string& one, const std::map<std::string, std::string>& parts) {
    for (const std::string& name : names("." + stack + ".")) {
      const std::size_t at = name.find("." + stack + ".");
      const std::string rest = name.substr(at + stack.size() + 2);
      const std::size_t dot = rest.find('.');
      const std::string part = parts.at(rest.substr(0, dot));
      const std::string suffix = dot == std::string::npos ? "" : rest.substr(dot);
      Tensor all = take(name);
      const auto experts = static_cast<std::size_t>(all.shape[0]);
      const std::size_t bytes = all.bytes.size() / experts;
      for (std::size_t e = 0; e < experts; ++e) {
        tensors[name.substr(0, at) + "." + one + "." + std::to_string(e) + "." + part + suffix] = {
            all.dtype, {all.shape.begin() + 1, all.shape.end()}, all.bytes.substr(e * bytes, bytes)};
      }
    }
  }

  /// Decodes every quantized matrix to bf16 and forgets that the model was quantized.
  void decode() {
    const Config parsed = Config::parse(config.dump(), "config.json");
    const Quantization quantization = Quantization::from_config(parsed);
    for (const std::string& name : names(".scales")) {
      const std::string path = name.substr(0, name.size() - 7);
      kernels::Format format = quantization.format(path, true).value();
      const Tensor codes = take(path + ".weight");
      const Tensor scales = take(name);
      const Tensor biases = kernels::has_biases(format) ? take(path + ".biases") : Tensor();
      if (kernels::has_biases(format)) format.scale_type = scales.dtype;
      const std::int64_t cols = codes.shape.back() * 32 / format.bits;
      std::vector<std::int64_t> shape = codes.shape;
      shape.back() = cols;
      tensors[path + ".weight"] = bf16_tensor(shape, decoded(format, static_cast<int>(cols), codes, scales, biases));
    }
    config.erase("quantization");
    config.erase("quantization_config");
  }

  static std::vector<float> decoded(const kernels::Format& format, int cols, const Tensor& codes, const Tensor& scales,
                                    const Tensor& biases) {
    const auto pointer = [](const Tensor& tensor) {
      return tensor.bytes.empty() ? nullptr : reinterpret_cast<const std::byte*>(tensor.bytes.data());
    };
    const auto rows = static_cast<int>(static_cast<std::int64_t>(codes.bytes.size()) / code_row_bytes(format, cols));
    const auto view = kernels::make_view(format, rows, cols, pointer(codes), pointer(scales), pointer(biases));
    std::vector<float> values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols));
    for (int row = 0; row < rows; ++row) {
      kernels::dequantize_row(view, row, &values[static_cast<std::size_t>(row) * static_cast<std::size_t>(cols)]);
    }
    return values;
  }
};

}  // namespace sluice::model
