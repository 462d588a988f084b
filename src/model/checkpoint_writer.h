// Puts a checkpoint on the disk, whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/units.h"
#include "stream/safetensors_writer.h"

namespace sluice::model {

inline constexpr std::uint64_t kMaxShardBytes = 5 * kGiB;  // of data; the MLX converter's

/// A safetensors file to write.
struct NewShard {
  std::string name;
  stream::SafetensorsLayout layout;
  stream::ProduceBytes produce;
};

struct NewText {
  std::string name;
  std::string content;
};

/// The files of a new checkpoint.
struct NewCheckpoint {
  std::vector<NewShard> shards;
  std::vector<NewText> texts;                 // config.json, the index, ...
  std::vector<std::filesystem::path> copies;  // files from elsewhere, which keep their names
  std::string if_too_large;                   // what to do if the disk is too small, beside making room: "..., or ..."

  std::uint64_t bytes() const;  // of all files
};

/// Bytes written and to write in all; false: stop.
using CheckpointProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

/// Where a new directory will be, with links resolved and no slash at the end. Throws Error naming it.
std::filesystem::path resolve_destination(const std::filesystem::path& destination);

/// Writes the files into a hidden directory beside `destination` and renames it at the end; `destination` must not
/// exist, or be an empty directory. The bytes depend on the checkpoint alone, not on `threads`. Returns false if
/// `progress` stopped it; then, and after an error, nothing is left. Throws Error naming what is in the way: a
/// destination in use, too little free space, a write that failed; and what a producer throws.
bool write_checkpoint(const NewCheckpoint& checkpoint, const std::filesystem::path& destination, int threads,
                      const CheckpointProgress& progress);

/// Throws Error naming `directory`, both numbers and what to do if `available` bytes are not enough.
void require_space(const std::filesystem::path& directory, std::uint64_t needed, std::uint64_t available,
                   const std::string& if_too_large);

}  // namespace sluice::model
