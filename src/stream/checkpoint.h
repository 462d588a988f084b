// What is in a checkpoint directory: its safetensors files and where each tensor lies in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"

namespace sluice::stream {

/// Where one tensor lies. Offsets are absolute in the file; data may start at any byte (MLX does not align).
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  int file = 0;              // index into Checkpoint::files()
  std::uint64_t offset = 0;  // bytes from the start of the file
  std::uint64_t bytes = 0;   // = product of shape times size of dtype, checked
};

struct FileInfo {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
};

/// An opened checkpoint: headers read and checked, no tensor data read. Immutable, so safe to share between threads.
/// Move-only, because the lookup by name points into the tensors.
class Checkpoint {
 public:
  Checkpoint(Checkpoint&&) noexcept = default;
  Checkpoint& operator=(Checkpoint&&) noexcept = default;

  /// Reads model.safetensors.index.json if there is one and opens the files it names, else every model*.safetensors.
  /// Every header is checked as untrusted (safetensors.h), and that the index and the files agree.
  /// Throws Error naming the directory, file or tensor.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  std::span<const FileInfo> files() const { return files_; }
  std::span<const TensorInfo> tensors() const { return tensors_; }  // in order of file, then offset

  /// The tensor of that name, or null.
  const TensorInfo* find(std::string_view name) const;
  /// The tensor of that name; throws Error naming the tensor and the directory if it is missing.
  const TensorInfo& get(std::string_view name) const;

  /// Bytes of all tensors.
  std::uint64_t tensor_bytes() const;

 private:
  Checkpoint() = default;

  std::filesystem::path directory_;
  std::vector<FileInfo> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, std::size_t> by_name_;  // keys point into tensors_
};

}  // namespace sluice::stream
