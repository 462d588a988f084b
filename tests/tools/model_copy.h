// Copies of the embedded model to damage.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace sluice::tools::testing {

/// The directory of the embedded model in the source tree.
std::filesystem::path embedded_model();

/// A directory of its own under the test's temporary directory, removed with everything in it.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  /// Writes a file in it and returns its path.
  std::filesystem::path write(const std::string& name, const std::string& content) const;
  /// Names of everything in it, sorted.
  std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

/// The whole content of a file.
std::string read_file(const std::filesystem::path& path);

/// The embedded model in a scratch directory: links, until a file is changed.
class ModelCopy {
 public:
  static constexpr const char* kShard = "model-00001-of-00002.safetensors";

  ModelCopy();
  std::string directory() const { return scratch_.path().string(); }
  const ScratchDirectory& scratch() const { return scratch_; }

  void remove(const std::string& file);
  void replace(const std::string& file, const std::string& content);
  /// Changes a JSON file.
  void edit(const std::string& file, const std::function<void(nlohmann::ordered_json&)>& change);
  /// Changes the header of the first shard; the data stays where it is.
  void edit_header(const std::function<void(nlohmann::ordered_json&)>& change);
  /// Cuts the first shard to `bytes`.
  void truncate_shard(std::uint64_t bytes);

 private:
  ScratchDirectory scratch_;
};

}  // namespace sluice::tools::testing
