// Asynchronous reads of checkpoint bytes into memory of the caller: many in flight, completed in any order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stream/io_engine.h"

namespace sluice::stream {

/// One contiguous range to read. With direct I/O, offset, length and dest are multiples of kIoAlignment: callers read
/// the aligned window around the bytes they want (see window()).
struct Read {
  int file = 0;               // as returned by Reader::add_file
  std::uint64_t offset = 0;   // bytes
  std::uint32_t length = 0;   // bytes; may reach past the end of the file
  std::uint32_t needed = 0;   // bytes from offset that must arrive: a file that ends earlier is an error
  std::byte* dest = nullptr;  // stays valid until the completion
  std::uint64_t tag = 0;      // returned with the completion
};

/// The aligned window around bytes [offset, offset + bytes) of a file. To be sure of the wanted bytes, a Read of it
/// needs shift + bytes.
struct Window {
  std::uint64_t offset;  // multiple of kIoAlignment
  std::uint32_t length;  // multiple of kIoAlignment
  std::uint32_t shift;   // where the wanted bytes start in the window
};
/// `bytes` is below 2 GiB; a longer range is read in pieces.
Window window(std::uint64_t offset, std::uint64_t bytes);

/// A read that ended. `error` is empty on success, else one line naming the file, what happened and what to do.
struct Completion {
  std::uint64_t tag = 0;
  std::uint32_t length = 0;  // of the Read, bytes
  std::string_view error;    // points into the Reader; valid until its next call
};

/// Counts since construction. Bytes are what was requested from the device, window slack included.
struct IoStats {
  std::uint64_t reads = 0;        // transfers submitted, continuations of short reads included
  std::uint64_t bytes = 0;        // transferred
  std::uint64_t short_reads = 0;  // transfers that were continued
  std::uint64_t retries = 0;      // transfers repeated after EINTR, EAGAIN or a first EIO
  std::uint64_t max_in_flight = 0;
};

/// How reads are made on this machine, for the user: which engine, direct or buffered, and why.
struct IoChoice {
  std::string engine;   // "uring", "pread"
  bool direct = false;  // O_DIRECT
  std::string reason;   // empty, or why it is not what was asked for ("io_uring_setup: Operation not permitted")
};

/// Splits reads over an IoEngine, continues short ones, retries what may succeed, and notices files that end early.
/// Used by one thread. Owns its engine and file descriptors. submit() never waits for the disk: reads beyond the
/// engine's depth wait in a queue inside. No allocation in steady state. Destroying it waits for the reads that have
/// begun. Buffered reads drop their pages from the page cache when they end: the budget counts memory once, and a page
/// kept beside the slot that was filled from it would be counted nowhere.
class Reader {
 public:
  /// Takes any engine: tests pass a scripted one. `direct` says whether files are opened with O_DIRECT.
  Reader(std::unique_ptr<IoEngine> engine, bool direct);
  ~Reader();
  Reader(Reader&&) noexcept;

  /// Chooses the engine: the wanted one ("uring", "pread", or empty for the best) if a real transfer from `sample`
  /// works through it, with O_DIRECT if the file system has it; else the next that works. See choice(). `depth`, at
  /// least 1, is how many operations may be in flight; for small slices speed grows with it beyond 32. Throws Error
  /// naming `sample` if nothing can read it, UsageError if no engine of the wanted name is known.
  static Reader open(std::string_view wanted, const std::filesystem::path& sample, unsigned depth = 128);

  /// Opens a file for reading; the first gets index 0, the next 1, and so on. Throws Error naming it.
  int add_file(const std::filesystem::path& path);

  /// Queues reads and starts as many as the engine takes; poll() starts the others as room comes free. Throws Error if
  /// the kernel takes no more operations at all; the Reader is of no further use then. So does poll().
  void submit(std::span<const Read> reads);
  /// Fills `done` with finished reads, waiting for at least one if `wait` and any is outstanding. Returns how many.
  std::size_t poll(std::span<Completion> done, bool wait);
  /// Reads submitted and not yet returned by poll().
  std::size_t outstanding() const;

  const IoStats& stats() const;
  const IoChoice& choice() const;

 private:
  Reader(std::unique_ptr<IoEngine> engine, IoChoice choice);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::stream
