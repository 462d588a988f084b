#include "stream/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

// Large enough for the full rate of a drive with a few in flight, small enough that memory stays at tens of MiB.
constexpr std::uint64_t kBlockBytes = 8 * kMiB;

constexpr std::chrono::milliseconds kProgressInterval{100};

/// A file under construction. Its descriptor may lose O_DIRECT on the way; every block is written in whole sectors and
/// the file is cut to its size at the end, so that makes no difference.
class BlockFile {
 public:
  BlockFile(const std::filesystem::path& path, std::uint64_t bytes) : path_(path.string()), bytes_(bytes) {
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    descriptor_ = ::open(path_.c_str(), kFlags | O_DIRECT, 0666);
    if (descriptor_ < 0 && errno == EINVAL) descriptor_ = ::open(path_.c_str(), kFlags, 0666);
    if (descriptor_ < 0) fail_errno("cannot be written");
    // A full disk shows now and not after minutes, and blocks written side by side do not wait for the file to grow.
    // Where the file system cannot reserve, nothing is lost.
    const int reserved = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(round_up(bytes, kIoAlignment)));
    if (reserved != 0 && errno == ENOSPC) fail_errno("writing failed");
  }
  ~BlockFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  BlockFile(const BlockFile&) = delete;
  BlockFile& operator=(const BlockFile&) = delete;

  /// `block` and `offset` in whole sectors. Safe from several threads.
  void write(std::span<const std::byte> block, std::uint64_t offset) const {
    bool direct = true;  // as far as this call knows
    while (!block.empty()) {
      const ssize_t written = ::pwrite(descriptor_, block.data(), block.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      // Some file systems open for direct I/O and refuse it at the first transfer.
      const bool refused = written < 0 && errno == EINVAL && direct;
      if (written < 0 && !refused) fail_errno("writing failed");
      if (written > 0) {
        block = block.subspan(static_cast<std::size_t>(written));
        offset += static_cast<std::uint64_t>(written);
      }
      // A transfer cut short inside a sector leaves a rest that direct I/O would refuse.
      if (direct && (refused || offset % kIoAlignment != 0)) {
        leave_direct();
        direct = false;
      }
    }
  }

  /// Cuts the file to its size and waits for the device, so that a file which carries its final name holds its data.
  void finish() {
    if (::ftruncate(descriptor_, static_cast<off_t>(bytes_)) != 0 || ::fsync(descriptor_) != 0) {
      fail_errno("writing failed");
    }
    if (::close(std::exchange(descriptor_, -1)) != 0) fail_errno("writing failed");
  }

 private:
  void leave_direct() const {
    const int flags = ::fcntl(descriptor_, F_GETFL);
    if (flags < 0 || ::fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT) != 0) fail_errno("writing failed");
  }

  [[noreturn]] void fail_errno(const char* what) const {
    const int error = errno;
    fail("{}: {}: {}{}", path_, what, std::strerror(error),
         error == ENOSPC ? fmt::format("; the file needs {}: free some space", format_bytes(bytes_)) : "");
  }

  const std::string path_;
  const std::uint64_t bytes_;
  int descriptor_ = -1;
};

/// What the threads share.
class Writing {
 public:
  Writing(const BlockFile& file, const SafetensorsLayout& layout, const ProduceBytes& produce)
      : file_(file), layout_(layout), produce_(produce) {}

  /// Writes blocks until there are none left, one failed, or stop().
  void work() noexcept {
    try {
      const Buffer buffer = Buffer::allocate(kBlockBytes, "blocks of a file being written");
      while (!stopped_.load()) {
        const std::uint64_t begin = next_.fetch_add(kBlockBytes);
        if (begin >= layout_.file_bytes) break;
        const std::uint64_t bytes = std::min(kBlockBytes, layout_.file_bytes - begin);
        fill(begin, buffer.bytes().first(bytes));
        const std::uint64_t sectors = round_up(bytes, kIoAlignment);
        std::memset(buffer.data() + bytes, 0, sectors - bytes);
        file_.write(buffer.bytes().first(sectors), begin);
        written_.fetch_add(bytes);
      }
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      stopped_.store(true);
    }
    const std::scoped_lock lock(mutex_);
    ++ended_;
    changed_.notify_one();
  }

  void stop() { stopped_.store(true); }
  std::uint64_t written() const { return written_.load(); }

  /// Waits for a moment; true once `threads` threads have ended.
  bool ended(int threads) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kProgressInterval, [&] { return ended_ == threads; });
  }

  /// After the threads have ended.
  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  /// The bytes of the file from `begin` on.
  void fill(std::uint64_t begin, std::span<std::byte> bytes) const {
    const std::string_view header = layout_.header;
    if (begin < header.size()) {
      const std::size_t count = std::min<std::size_t>(header.size() - begin, bytes.size());
      std::memcpy(bytes.data(), header.data() + begin, count);
      bytes = bytes.subspan(count);
      begin += count;
    }
    const auto& offsets = layout_.offsets;
    auto tensor = static_cast<std::size_t>(std::upper_bound(offsets.begin(), offsets.end(), begin) - offsets.begin());
    while (!bytes.empty()) {
      const std::uint64_t end = tensor < offsets.size() ? offsets[tensor] : layout_.file_bytes;
      const std::size_t count = std::min<std::uint64_t>(end - begin, bytes.size());
      if (count > 0) produce_(tensor - 1, begin - offsets[tensor - 1], bytes.first(count));
      bytes = bytes.subspan(count);
      begin += count;
      ++tensor;
    }
  }

  const BlockFile& file_;
  const SafetensorsLayout& layout_;
  const ProduceBytes& produce_;
  std::atomic<std::uint64_t> next_{0};  // start of the first block nobody has claimed
  std::atomic<std::uint64_t> written_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  int ended_ = 0;
  std::exception_ptr failure_;
};

struct StopOnExit {
  Writing& writing;
  ~StopOnExit() { writing.stop(); }
};

}  // namespace

std::uint64_t data_bytes(const TensorHeader& tensor) {
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const std::int64_t dimension : tensor.shape) bytes *= static_cast<std::uint64_t>(dimension);
  return bytes;
}

SafetensorsLayout lay_out(std::span<const TensorHeader> tensors, std::uint64_t alignment) {
  nlohmann::json json = {{"__metadata__", {{"format", "mlx"}}}};
  SafetensorsLayout layout;
  std::uint64_t end = 0;  // of the data so far
  for (const TensorHeader& tensor : tensors) {
    const std::uint64_t begin = std::exchange(end, end + data_bytes(tensor));
    layout.offsets.push_back(begin);
    json[tensor.name] = {{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = json.dump();
  constexpr std::uint64_t kLengthBytes = 8;
  text.resize(round_up(kLengthBytes + text.size(), alignment) - kLengthBytes, ' ');
  for (unsigned i = 0; i < kLengthBytes; ++i) layout.header += static_cast<char>((text.size() >> (8 * i)) & 0xff);
  layout.header += text;
  for (std::uint64_t& offset : layout.offsets) offset += layout.header.size();
  layout.file_bytes = layout.header.size() + end;
  return layout;
}

bool write_safetensors(const std::filesystem::path& path, const SafetensorsLayout& layout, int threads,
                       const ProduceBytes& produce, const WriteProgress& progress) {
  BlockFile file(path, layout.file_bytes);
  Writing writing(file, layout, produce);
  bool wanted = true;
  {
    std::vector<std::jthread> workers;
    const StopOnExit stop_on_exit{writing};  // before the threads are joined, should anything here throw
    for (int i = 0; i < threads; ++i) workers.emplace_back([&writing] { writing.work(); });
    while (!writing.ended(threads)) {
      if (wanted && !progress(writing.written())) {
        wanted = false;
        writing.stop();
      }
    }
  }
  writing.rethrow_failure();
  if (!wanted) return false;
  file.finish();
  return progress(layout.file_bytes);
}

}  // namespace sluice::stream
