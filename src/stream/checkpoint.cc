#include "stream/checkpoint.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <exception>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "stream/checkpoint_index.h"
#include "stream/input_file.h"
#include "stream/safetensors.h"

namespace sluice::stream {
namespace {

namespace fs = std::filesystem;

/// `bytes` bytes of `file` from `offset` on. The caller has checked them against its size.
std::vector<std::byte> read_bytes(const InputFile& file, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::byte> content(bytes);
  const std::size_t arrived = file.read_at(offset, content);
  if (arrived < bytes) {
    fail("{}: ends at byte {}, expected {}: changed while it was opened", file.path().string(), offset + arrived,
         offset + bytes);
  }
  return content;
}

void check_directory(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (!fs::exists(status)) fail("{}: no such directory", directory.string());
  if (!fs::is_directory(status)) fail("{}: is not a directory; expected one with model files", directory.string());
}

std::vector<IndexEntry> read_index(const fs::path& path) {
  const InputFile file = InputFile::open(path);
  // An index names every tensor once, as the headers do, so their limit serves.
  if (file.bytes() > kMaxHeaderBytes) {
    fail("{}: has {} bytes, more than the {} an index may have", path.string(), file.bytes(), kMaxHeaderBytes);
  }
  return parse_index(read_bytes(file, 0, file.bytes()), path.string());
}

/// The files that an index names, each once, in order of name. All of them exist.
std::vector<fs::path> shards_of(const std::vector<IndexEntry>& index, const fs::path& index_path) {
  std::vector<std::string> names;
  for (const IndexEntry& entry : index) names.push_back(entry.file);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (names.empty()) fail("{}: names no file", index_path.string());

  std::vector<fs::path> paths;
  const std::string* missing = nullptr;
  for (const std::string& name : names) {
    fs::path path = index_path.parent_path() / name;
    std::error_code error;
    if (fs::exists(path, error)) {
      paths.push_back(std::move(path));
    } else if (missing == nullptr) {
      missing = &name;
    }
  }
  if (missing != nullptr) {
    fail("{}: names '{}', which is missing ({} of {} files are there); download it again", index_path.string(),
         printable(*missing), paths.size(), names.size());
  }
  return paths;
}

/// Every model*.safetensors of a directory, in order of name: what is loaded when there is no index.
std::vector<fs::path> model_files_in(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors")) paths.push_back(at->path());
  }
  if (error) fail("{}: cannot be listed: {}", directory.string(), error.message());
  if (paths.empty()) fail("{}: no model*.safetensors in this directory", directory.string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

struct Header {
  FileInfo file;
  std::vector<TensorInfo> tensors;
};

Header read_header(const fs::path& path) {
  const InputFile file = InputFile::open(path);
  std::array<std::byte, 8> first_bytes{};
  if (file.read_at(0, first_bytes) < first_bytes.size()) {
    fail("{}: has {} bytes, too few for a safetensors file", path.string(), file.bytes());
  }
  const std::uint64_t length = header_length(first_bytes, file.bytes(), path.string());
  const std::vector<std::byte> json = read_bytes(file, first_bytes.size(), length);
  return {{path, file.bytes()}, parse_header(json, file.bytes(), path.string())};
}

/// The headers of all files. They are read in parallel, because a large model has hundreds of them on a slow disk.
/// When several are broken, the first in order is reported.
std::vector<Header> read_headers(const std::vector<fs::path>& paths) {
  std::vector<Header> headers(paths.size());
  std::vector<std::exception_ptr> errors(paths.size());
  tbb::parallel_for(std::size_t{0}, paths.size(), [&](std::size_t i) {
    try {
      headers[i] = read_header(paths[i]);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  const auto first = std::find_if(errors.begin(), errors.end(), [](const auto& error) { return error != nullptr; });
  if (first != errors.end()) std::rethrow_exception(*first);
  return headers;
}

/// Every tensor that the index names lies in the file that the index says. Tensors it does not name are accepted:
/// other loaders ignore the index.
void check_against_index(const Checkpoint& checkpoint, const std::vector<IndexEntry>& index,
                         const fs::path& index_path) {
  for (const IndexEntry& entry : index) {
    const TensorInfo* tensor = checkpoint.find(entry.tensor);
    if (tensor == nullptr) {
      fail("{}: says that tensor '{}' is in '{}', which does not hold it", index_path.string(), printable(entry.tensor),
           printable(entry.file));
    }
    const std::string actual = checkpoint.files()[static_cast<std::size_t>(tensor->file)].path.filename().string();
    if (actual != entry.file) {
      fail("{}: says that tensor '{}' is in '{}', but it is in '{}'", index_path.string(), printable(entry.tensor),
           printable(entry.file), printable(actual));
    }
  }
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& directory) {
  check_directory(directory);
  const fs::path index_path = directory / kIndexName;
  std::error_code error;
  const bool indexed = fs::exists(index_path, error);
  const std::vector<IndexEntry> index = indexed ? read_index(index_path) : std::vector<IndexEntry>{};
  std::vector<Header> headers = read_headers(indexed ? shards_of(index, index_path) : model_files_in(directory));

  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  for (Header& header : headers) {
    for (TensorInfo& tensor : header.tensors) {
      tensor.file = static_cast<int>(checkpoint.files_.size());
      checkpoint.tensors_.push_back(std::move(tensor));
    }
    checkpoint.files_.push_back(std::move(header.file));
  }
  checkpoint.by_name_.reserve(checkpoint.tensors_.size());
  for (std::size_t i = 0; i < checkpoint.tensors_.size(); ++i) {
    const TensorInfo& tensor = checkpoint.tensors_[i];
    const auto [other, added] = checkpoint.by_name_.emplace(tensor.name, i);
    if (added) continue;
    const auto file_of = [&](const TensorInfo& info) {
      return checkpoint.files_[static_cast<std::size_t>(info.file)].path.filename().string();
    };
    fail("{}: tensor '{}' is in both '{}' and '{}'", directory.string(), printable(tensor.name),
         file_of(checkpoint.tensors_[other->second]), file_of(tensor));
  }
  if (indexed) check_against_index(checkpoint, index, index_path);
  return checkpoint;
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const TensorInfo& Checkpoint::get(std::string_view name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr) fail("{}: tensor '{}' is missing", directory_.string(), printable(name));
  return *tensor;
}

std::uint64_t Checkpoint::tensor_bytes() const {
  return std::accumulate(tensors_.begin(), tensors_.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const TensorInfo& tensor) { return sum + tensor.bytes; });
}

}  // namespace sluice::stream
