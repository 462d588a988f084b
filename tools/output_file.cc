#include "output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace sluice::tools {

namespace fs = std::filesystem;

void check_writable(const fs::path& path) { OutputFile probe(path); }

OutputFile::OutputFile(const fs::path& path) : shown_(path), path_(path) {
  std::error_code ignored;
  // Renaming over a symbolic link would replace the link instead of what it points to.
  if (fs::is_symlink(path, ignored)) path_ = fs::weakly_canonical(path, ignored);
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::is_directory(status)) fail("{}: is a directory; name a file to write", shown_.string());
  const bool replace = !fs::exists(status) || fs::is_regular_file(status);
  if (replace) {
    if (fs::exists(status) && access(path_.c_str(), W_OK) != 0) fail_errno("cannot be written");
    temporary_ = path_;
    temporary_ += fmt::format(".{}.tmp", getpid());
  }
  const int flags = replace ? O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC : O_WRONLY | O_CLOEXEC;
  descriptor_ = ::open(replace ? temporary_.c_str() : path_.c_str(), flags, 0666);
  if (descriptor_ < 0) {
    temporary_.clear();
    fail_errno("cannot be written");
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_errno("writing failed");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::commit() {
  // Some file systems report a full disk only when the file is closed.
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0) fail_errno("writing failed");
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_errno("cannot be replaced");
  temporary_.clear();
}

void OutputFile::fail_errno(const char* what) { fail("{}: {}: {}", shown_.string(), what, std::strerror(errno)); }

void write_file(const fs::path& path, std::string_view text) {
  if (path.empty()) return;
  OutputFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace sluice::tools
