// Result files that appear complete or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace sluice::tools {

/// Throws Error naming the file if it could not be written now. Leaves nothing behind. Called before hours of work,
/// so that a typing error in a path costs nothing.
void check_writable(const std::filesystem::path& path);

/// Collects a file under a temporary name beside its destination and renames it over the destination at the end, so
/// that a reader never sees half a file and a failed run changes nothing. A destination that is a device or a pipe
/// is written directly. Move-less; every failure throws Error naming the destination.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  /// Removes the temporary file if commit() was not reached.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Flushes and renames.
  void commit();

 private:
  [[noreturn]] void fail_errno(const char* what);

  std::filesystem::path shown_;      // as the user named it
  std::filesystem::path path_;       // links resolved
  std::filesystem::path temporary_;  // empty when written directly, or when committed
  int descriptor_ = -1;
};

/// Writes `text` as a whole file; does nothing if `path` is empty. Throws Error naming the file.
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace sluice::tools
