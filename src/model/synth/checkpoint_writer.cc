#include "model/synth/checkpoint_writer.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "stream/safetensors_writer.h"

namespace sluice::model::synth {
namespace {

namespace fs = std::filesystem;

/// Where the checkpoint will be, with links resolved and no slash at the end.
fs::path resolve(const fs::path& destination) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(destination), error);
  if (error) fail("{}: {}", destination.string(), error.message());
  return path.has_filename() ? path : path.parent_path();
}

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

/// False if `progress` stopped it. `before`: bytes of the files before this one.
bool write_file(const PlannedFile& file, const CheckpointPlan& plan, const fs::path& directory, std::uint64_t before,
                int threads, const SynthProgress& progress) {
  std::vector<stream::TensorHeader> headers;
  std::vector<std::uint64_t> streams;
  for (const PlannedTensor& tensor : file.tensors) {
    headers.push_back(tensor.header);
    streams.push_back(random_stream(tensor.random_name, plan.seed));
  }
  const auto produce = [&](std::size_t tensor, std::uint64_t offset, std::span<std::byte> bytes) {
    const PlannedTensor& planned = file.tensors[tensor];
    fill_bytes(planned.fill, planned.header.dtype, streams[tensor], offset, bytes);
  };
  return stream::write_safetensors(directory / file.name, headers, threads, produce,
                                   [&](std::uint64_t bytes) { return progress(before + bytes, plan.bytes()); });
}

}  // namespace

void require_space(const fs::path& directory, std::uint64_t needed, std::uint64_t available) {
  if (needed <= available) return;
  fail("{}: the checkpoint needs {}, and {} are free there; make room, or write fewer --layers", directory.string(),
       format_bytes(needed), format_bytes(available));
}

bool write_checkpoint(const CheckpointPlan& plan, const fs::path& destination, int threads,
                      const SynthProgress& progress) {
  const fs::path path = resolve(destination);
  require_unused(path, destination);
  std::error_code error;
  const fs::space_info space = fs::space(path.parent_path(), error);
  if (error) fail("{}: {}", destination.string(), error.message());
  require_space(destination, plan.bytes(), space.available);

  PartialDirectory partial(path, destination);
  std::uint64_t done = 0;
  for (const PlannedFile& file : plan.files) {
    if (!write_file(file, plan, partial.path(), done, threads, progress)) return false;
    done += file.bytes;
  }
  write_text(partial.path() / "model.safetensors.index.json", plan.index);
  write_text(partial.path() / "config.json", plan.config);
  partial.take_final_name();
  return true;
}

}  // namespace sluice::model::synth
