// A regular file opened for reading, and the plain blocking reads that set-up needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace sluice::stream {

/// Owns a file descriptor. Move-only. Reads do not move a position, so one file may be shared between threads.
class InputFile {
 public:
  /// Opens `path`, with O_DIRECT if `direct`, without read-ahead. Throws Error naming it if it is missing, unreadable
  /// or no regular file.
  static InputFile open(const std::filesystem::path& path, bool direct = false);

  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  int descriptor() const { return descriptor_; }
  const std::filesystem::path& path() const { return path_; }
  std::uint64_t bytes() const { return bytes_; }  // when it was opened

  /// Reads until `dest` is full or the file ends; returns how many bytes arrived. Throws Error naming the file.
  std::size_t read_at(std::uint64_t offset, std::span<std::byte> dest) const;

 private:
  InputFile(int descriptor, std::filesystem::path path, std::uint64_t bytes);

  int descriptor_;
  std::filesystem::path path_;
  std::uint64_t bytes_;
};

}  // namespace sluice::stream
