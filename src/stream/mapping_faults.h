// The end of a process that touches a page of a mapped file which is no longer there.
#pragma once

#include <cstddef>
#include <filesystem>

namespace sluice::stream {

/// While it lives, a SIGBUS for an address in [begin, begin + bytes), where `path` is mapped, ends the process with
/// exit code 1 and one line on stderr that names the file. The kernel sends it when a file was truncated while it was
/// mapped or its device failed; there is no call that could return an error instead. What was flushed to stdout stays
/// there. Other causes of the signal are handled as before. The first object installs the handler, for good.
class WatchedMapping {
 public:
  WatchedMapping(const std::byte* begin, std::size_t bytes, const std::filesystem::path& path);
  ~WatchedMapping();
  WatchedMapping(const WatchedMapping&) = delete;
  WatchedMapping& operator=(const WatchedMapping&) = delete;

  struct Entry;

 private:
  Entry* entry_;
};

}  // namespace sluice::stream
