#include "model_copy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

namespace sluice::tools::testing {

namespace fs = std::filesystem;

fs::path embedded_model() { return fs::path(SLUICE_SOURCE_DIR) / "models" / "inkwell-44m"; }

ScratchDirectory::ScratchDirectory() {
  std::string pattern = ::testing::TempDir() + "sluice-XXXXXX";
  const char* made = mkdtemp(pattern.data());
  EXPECT_NE(made, nullptr);
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() { fs::remove_all(path_); }

fs::path ScratchDirectory::write(const std::string& name, const std::string& content) const {
  const fs::path path = path_ / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::vector<std::string> ScratchDirectory::names() const {
  std::vector<std::string> result;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) result.push_back(entry.path().filename());
  std::sort(result.begin(), result.end());
  return result;
}

std::string read_file(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

ModelCopy::ModelCopy() {
  for (const fs::directory_entry& entry : fs::directory_iterator(embedded_model())) {
    if (entry.is_regular_file()) fs::create_symlink(entry.path(), scratch_ / entry.path().filename());
  }
}

void ModelCopy::remove(const std::string& file) { fs::remove(scratch_ / file); }

void ModelCopy::replace(const std::string& file, const std::string& content) {
  remove(file);  // the link, not what it points to
  scratch_.write(file, content);
}

void ModelCopy::edit(const std::string& file, const std::function<void(nlohmann::ordered_json&)>& change) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(read_file(scratch_ / file));
  change(json);
  replace(file, json.dump());
}

void ModelCopy::edit_header(const std::function<void(nlohmann::ordered_json&)>& change) {
  const std::string content = read_file(scratch_ / kShard);
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(content[i]);
  nlohmann::ordered_json header = nlohmann::ordered_json::parse(content.substr(8, length));
  change(header);
  const std::string json = header.dump();
  std::string prefix;
  for (std::size_t i = 0; i < 8; ++i) prefix += static_cast<char>(json.size() >> (8 * i) & 0xff);
  replace(kShard, prefix + json + content.substr(8 + length));
}

void ModelCopy::truncate_shard(std::uint64_t bytes) { replace(kShard, read_file(scratch_ / kShard).substr(0, bytes)); }

}  // namespace sluice::tools::testing
