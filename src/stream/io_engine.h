// The small interface behind which reads reach the kernel: io_uring, a pool of pread threads, a scripted fake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace sluice::stream {

/// One transfer as the kernel sees it.
struct IoOp {
  int fd;
  std::uint64_t offset;  // bytes
  std::uint32_t length;  // bytes
  std::byte* dest;
  std::uint64_t id;  // returned with the result
};

struct IoResult {
  std::uint64_t id;
  std::int32_t result;  // bytes transferred, possibly fewer than asked, or -errno
};

/// Carries out reads in any order. Knows nothing of retries, short reads or files: Reader does. Used by one thread.
/// Destroying it waits for the operations that have begun, because they write to memory of the caller.
class IoEngine {
 public:
  virtual ~IoEngine() = default;
  virtual std::string_view name() const = 0;
  /// How many operations may be in flight.
  virtual unsigned depth() const = 0;
  /// Starts all of `ops` (at most depth() minus those in flight). Throws Error if the kernel refuses to take them; the
  /// engine is of no further use then.
  virtual void submit(std::span<const IoOp> ops) = 0;
  /// Fills `results` with finished operations and returns how many; waits for at least one if `wait` and any is in
  /// flight.
  virtual std::size_t reap(std::span<IoResult> results, bool wait) = 0;
};

/// How to make an engine; one line per engine in io_engines.cc.
struct IoEngineEntry {
  std::string_view name;                                // as --io names it
  std::unique_ptr<IoEngine> (*create)(unsigned depth);  // throws Error when the kernel cannot
};

/// Registered engines, preferred first: uring, pread.
std::span<const IoEngineEntry> io_engines();

}  // namespace sluice::stream
