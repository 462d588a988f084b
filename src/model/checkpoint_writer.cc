#include "model/checkpoint_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

void require_unused(const fs::path& path, const fs::path& shown) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    if (!fs::is_directory(path.parent_path(), error)) {
      fail("{}: the directory {} does not exist", shown.string(), path.parent_path().string());
    }
    return;
  }
  if (!fs::is_directory(status)) fail("{}: exists and is not a directory", shown.string());
  const bool empty = fs::is_empty(path, error);
  if (error) fail("{}: {}", shown.string(), error.message());
  if (!empty) fail("{}: is not empty; name a new directory, or remove what is in it", shown.string());
}

/// A directory that removes itself with everything in it, unless it got its final name.
class PartialDirectory {
 public:
  PartialDirectory(const fs::path& destination, const fs::path& shown)
      : destination_(destination),
        shown_(shown),
        path_(destination.parent_path() / fmt::format(".{}.{}.partial", destination.filename().string(), getpid())) {
    std::error_code error;
    const bool created = fs::create_directory(path_, error);
    if (error) fail("{}: cannot be created: {}", shown_.string(), error.message());
    if (!created) fail("{}: is left over from a run that was killed; remove it", path_.string());
  }
  ~PartialDirectory() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  const fs::path& path() const { return path_; }

  void take_final_name() {
    std::error_code error;
    fs::rename(path_, destination_, error);
    if (error) fail("{}: cannot be created: {}", shown_.string(), error.message());
    path_.clear();
  }

 private:
  const fs::path destination_;
  const fs::path shown_;  // as the user named it
  fs::path path_;
};

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) fail("{}: writing failed: {}", path.string(), std::strerror(errno));
}

void copy_into(const fs::path& from, const fs::path& directory) {
  std::error_code error;
  const fs::path to = directory / from.filename();
  fs::copy_file(from, to, error);
  if (error) fail("{}: cannot be copied to {}: {}", from.string(), to.string(), error.message());
}

}  // namespace

std::uint64_t NewCheckpoint::bytes() const {
  std::uint64_t sum = 0;
  for (const NewShard& shard : shards) sum += shard.layout.file_bytes;
  for (const NewText& text : texts) sum += text.content.size();
  for (const fs::path& copy : copies) sum += fs::file_size(copy);
  return sum;
}

fs::path resolve_destination(const fs::path& destination) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(destination), error);
  if (error) fail("{}: {}", destination.string(), error.message());
  return path.has_filename() ? path : path.parent_path();
}

void require_space(const fs::path& directory, std::uint64_t needed, std::uint64_t available,
                   const std::string& if_too_large) {
  if (needed <= available) return;
  fail("{}: the checkpoint needs {}, and {} are free there; make room{}", directory.string(), format_bytes(needed),
       format_bytes(available), if_too_large);
}

bool write_checkpoint(const NewCheckpoint& checkpoint, const fs::path& destination, int threads,
                      const CheckpointProgress& progress) {
  const fs::path path = resolve_destination(destination);
  require_unused(path, destination);
  std::error_code error;
  const fs::space_info space = fs::space(path.parent_path(), error);
  if (error) fail("{}: {}", destination.string(), error.message());
  const std::uint64_t total = checkpoint.bytes();
  require_space(destination, total, space.available, checkpoint.if_too_large);

  PartialDirectory partial(path, destination);
  std::uint64_t done = 0;
  for (const NewShard& shard : checkpoint.shards) {
    const auto report = [&](std::uint64_t bytes) { return progress(done + bytes, total); };
    if (!stream::write_safetensors(partial.path() / shard.name, shard.layout, threads, shard.produce, report)) {
      return false;
    }
    done += shard.layout.file_bytes;
  }
  for (const NewText& text : checkpoint.texts) write_text(partial.path() / text.name, text.content);
  for (const fs::path& copy : checkpoint.copies) copy_into(copy, partial.path());
  partial.take_final_name();
  return true;
}

}  // namespace sluice::model
