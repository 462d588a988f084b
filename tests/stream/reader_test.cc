#include "stream/reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "stream/fake_engine.h"
#include "stream/input_file.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr std::uint32_t kBlock = kIoAlignment;

// The fake serves its own bytes whatever file is opened; a file that is there and on a real file system will do.
constexpr const char* kAnyFile = "/proc/self/exe";

/// A Reader over a scripted device.
struct FakeSetup {
  explicit FakeSetup(std::size_t file_bytes, FakeEngine::Script script = {}, bool direct = false, unsigned depth = 4) {
    device.content = random_bytes(file_bytes, 7);
    reader.emplace(std::make_unique<FakeEngine>(device, depth, std::move(script)), direct);
    reader->add_file(kAnyFile);
  }

  /// Reads one range to its end and returns the error, empty on success.
  std::string read(std::uint64_t offset, std::uint32_t length, std::uint32_t needed) {
    const Read read{.offset = offset, .length = length, .needed = needed, .dest = buffer.data(), .tag = 42};
    reader->submit({&read, 1});
    Completion done;
    EXPECT_EQ(reader->poll({&done, 1}, true), 1u);
    EXPECT_EQ(done.tag, 42u);
    EXPECT_EQ(reader->outstanding(), 0u);
    return std::string(done.error);
  }

  /// Whether the last read brought these bytes of the device.
  bool brought(std::uint64_t offset, std::size_t bytes) const {
    return std::equal(buffer.data(), buffer.data() + bytes,
                      device.content.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  FakeDevice device;
  Buffer buffer = Buffer::allocate(64 * kBlock, "test");
  std::optional<Reader> reader;
};

TEST(Window, IsTheSmallestAlignedRangeAroundTheBytes) {
  for (const std::uint64_t offset : {0ull, 1ull, 4095ull, 4096ull, 10'000ull, (1ull << 40) + 17}) {
    for (const std::uint64_t bytes : {1ull, 4095ull, 4096ull, 4097ull, 1'000'000ull}) {
      const Window w = window(offset, bytes);
      EXPECT_EQ(w.offset % kBlock, 0u);
      EXPECT_EQ(w.length % kBlock, 0u);
      EXPECT_EQ(w.offset + w.shift, offset);
      EXPECT_LT(w.shift, kBlock);
      EXPECT_GE(w.length, w.shift + bytes);
      EXPECT_LT(w.length, w.shift + bytes + kBlock);
    }
  }
  EXPECT_EQ(window(kBlock, 0).length, 0u);
  EXPECT_THROW(window(0, 1ull << 31), Error);
}

TEST(Reader, ContinuesShortReadsWhereTheyStopped) {
  FakeSetup setup(10'000, [](const IoOp&, std::size_t) { return Outcome{.at_most = 3000}; });
  EXPECT_EQ(setup.read(100, 9000, 9000), "");
  EXPECT_TRUE(setup.brought(100, 9000));
  ASSERT_EQ(setup.device.log.size(), 3u);
  EXPECT_EQ(setup.device.log[1].offset, 3100u);
  EXPECT_EQ(setup.device.log[1].length, 6000u);
  EXPECT_EQ(setup.reader->stats().reads, 3u);
  EXPECT_EQ(setup.reader->stats().bytes, 9000u);
  EXPECT_EQ(setup.reader->stats().short_reads, 2u);
  EXPECT_EQ(setup.reader->stats().retries, 0u);
}

TEST(Reader, KeepsDirectContinuationsAligned) {
  FakeSetup setup(
      16 * kBlock, [](const IoOp&, std::size_t) { return Outcome{.at_most = kBlock + 1000}; }, true);
  EXPECT_EQ(setup.read(kBlock, 5 * kBlock, 5 * kBlock), "");
  EXPECT_TRUE(setup.brought(kBlock, 5 * kBlock));
  ASSERT_EQ(setup.device.log.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(setup.device.log[i].offset, (1 + i) * kBlock);
    EXPECT_EQ(setup.device.log[i].length, (5 - i) * kBlock);
  }
  EXPECT_EQ(setup.reader->stats().bytes, 4 * (kBlock + 1000) + kBlock) << "the repeated parts are transfers too";
}

TEST(Reader, TakesAShortReadThatBringsWhatIsNeeded) {
  FakeSetup setup(kBlock + 10, {}, true);
  EXPECT_EQ(setup.read(0, 2 * kBlock, kBlock + 10), "") << "the window reaches past the end of the file";
  EXPECT_TRUE(setup.brought(0, kBlock + 10));
  EXPECT_EQ(setup.device.log.size(), 1u);
  EXPECT_EQ(setup.reader->stats().short_reads, 0u);
}

TEST(Reader, TakesAReadBehindTheEndThatNeedsNothing) {
  FakeSetup setup(100);
  EXPECT_EQ(setup.read(kBlock, kBlock, 0), "");
}

TEST(Reader, ReportsAFileThatEndsEarly) {
  FakeSetup setup(100);
  EXPECT_EQ(setup.read(40, 100, 61),
            "/proc/self/exe: ends at byte 100, expected 101 or more: truncated, or changed while running");
  EXPECT_EQ(setup.read(40, 100, 60), "");
}

TEST(Reader, ReportsAnUnalignedEndUnderDirectReads) {
  FakeSetup setup(kBlock + 100, {}, true);
  EXPECT_THAT(setup.read(0, 2 * kBlock, kBlock + 101), HasSubstr("ends at byte 4196, expected 4197 or more"));
}

TEST(Reader, ReportsAFileThatShrinksBetweenTheParts) {
  FakeSetup setup(10'000);
  setup.reader.emplace(std::make_unique<FakeEngine>(setup.device, 4,
                                                    [&](const IoOp&, std::size_t nth) {
                                                      if (nth == 1) setup.device.content.resize(2000);
                                                      return Outcome{.at_most = 3000};
                                                    }),
                       false);
  setup.reader->add_file(kAnyFile);
  EXPECT_THAT(setup.read(0, 9000, 9000), HasSubstr("ends at byte 3000, expected 9000 or more"));
}

TEST(Reader, RepeatsInterruptedReads) {
  for (const int error : {EINTR, EAGAIN}) {
    FakeSetup setup(1000, [&](const IoOp&, std::size_t nth) { return Outcome{.error = nth < 5 ? error : 0}; });
    EXPECT_EQ(setup.read(0, 1000, 1000), "");
    EXPECT_TRUE(setup.brought(0, 1000));
    EXPECT_EQ(setup.reader->stats().retries, 5u);
    EXPECT_EQ(setup.reader->stats().reads, 6u);
    EXPECT_EQ(setup.reader->stats().short_reads, 0u);
  }
}

TEST(Reader, GivesUpWhenInterruptedWithoutEnd) {
  FakeSetup setup(1000, [](const IoOp&, std::size_t) { return Outcome{.error = EAGAIN}; });
  EXPECT_THAT(setup.read(0, 1000, 1000), HasSubstr("cannot be read at byte 0: Resource temporarily unavailable"));
}

TEST(Reader, ForgivesOneInputOutputError) {
  FakeSetup setup(1000, [](const IoOp&, std::size_t nth) { return Outcome{.error = nth == 0 ? EIO : 0}; });
  EXPECT_EQ(setup.read(0, 1000, 1000), "");
  EXPECT_TRUE(setup.brought(0, 1000));
  EXPECT_EQ(setup.reader->stats().retries, 1u);
}

TEST(Reader, ReportsASecondInputOutputError) {
  // The second comes in another part of the same read.
  FakeSetup setup(
      1000, [](const IoOp&, std::size_t nth) { return nth == 1 ? Outcome{.at_most = 400} : Outcome{.error = EIO}; });
  EXPECT_EQ(setup.read(0, 1000, 1000), "/proc/self/exe: cannot be read at byte 400: Input/output error");
  EXPECT_EQ(setup.device.log.size(), 3u);
  EXPECT_EQ(setup.reader->stats().retries, 1u);
}

TEST(Reader, ReportsOtherErrorsAtOnce) {
  FakeSetup setup(1000, [](const IoOp&, std::size_t) { return Outcome{.error = EINVAL}; });
  EXPECT_THAT(setup.read(0, 1000, 1000), HasSubstr("cannot be read at byte 0: Invalid argument"));
  EXPECT_EQ(setup.device.log.size(), 1u);
}

TEST(Reader, AnErrorStaysWithItsOwnRead) {
  FakeSetup setup(10 * kBlock,
                  [](const IoOp& op, std::size_t) { return Outcome{.error = op.offset == 3 * kBlock ? EIO : 0}; });
  std::vector<Read> reads;
  for (std::uint32_t i = 0; i < 10; ++i) {
    reads.push_back(
        {.offset = i * kBlock, .length = kBlock, .needed = kBlock, .dest = setup.buffer.data() + i * kBlock, .tag = i});
  }
  for (int round = 0; round < 2; ++round) {  // the second reuses what the first left behind, the error among it
    setup.reader->submit(reads);
    std::vector<Completion> done(3);  // fewer than finish at a time
    std::size_t total = 0;
    while (setup.reader->outstanding() > 0) {
      const std::size_t count = setup.reader->poll(done, true);
      ASSERT_GT(count, 0u);
      for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(done[i].error.empty(), done[i].tag != 3) << done[i].tag;
      total += count;
    }
    EXPECT_EQ(total, 10u);
  }
  EXPECT_TRUE(setup.brought(0, 3 * kBlock));
}

TEST(Reader, NeverExceedsTheDepthOfItsEngine) {
  FakeSetup setup(64 * kBlock, {}, false, 3);  // the fake throws when more are in flight
  std::vector<Read> reads;
  for (std::uint32_t i = 0; i < 64; ++i) {
    reads.push_back(
        {.offset = i * kBlock, .length = kBlock, .needed = kBlock, .dest = setup.buffer.data() + i * kBlock});
  }
  setup.reader->submit(reads);
  EXPECT_EQ(setup.reader->outstanding(), 64u);
  EXPECT_EQ(setup.device.log.size(), 3u);
  std::vector<Completion> done(64);
  std::size_t total = 0;
  while (total < 64) total += setup.reader->poll(done, true);
  EXPECT_EQ(setup.reader->stats().max_in_flight, 3u);
  EXPECT_TRUE(setup.brought(0, 64 * kBlock));
  // Without faults, reads begin in the order in which they were submitted.
  EXPECT_TRUE(std::is_sorted(setup.device.log.begin(), setup.device.log.end(),
                             [](const IoOp& a, const IoOp& b) { return a.offset < b.offset; }));
}

TEST(Reader, DoesNotWaitForNothing) {
  FakeSetup setup(100);
  Completion done;
  EXPECT_EQ(setup.reader->poll({&done, 1}, true), 0u);
  setup.reader->submit({});
  EXPECT_EQ(setup.reader->poll({&done, 1}, true), 0u);
  EXPECT_EQ(setup.reader->outstanding(), 0u);
}

TEST(Reader, CompletesEmptyReadsWithoutTheDevice) {
  FakeSetup setup(100);
  EXPECT_EQ(setup.read(50, 0, 0), "");
  EXPECT_EQ(setup.reader->stats().reads, 0u);
  EXPECT_NE(setup.read(0, 101, 101), "");
  EXPECT_EQ(setup.read(50, 0, 0), "") << "no error is left over";
}

TEST(Reader, NamesTheFileThatCannotBeOpened) {
  const ScratchDirectory scratch;
  FakeSetup setup(100);
  const auto missing = scratch.path() / "missing";
  EXPECT_EQ(message_of<Error>([&] { setup.reader->add_file(missing); }),
            missing.string() + ": cannot be opened: No such file or directory");
  EXPECT_EQ(message_of<Error>([&] { setup.reader->add_file(scratch.path()); }),
            scratch.path().string() + ": is not a regular file");
}

/// Random batches of reads must bring the bytes of `content`, of which reader's file i holds content[i].
void check_random_reads(Reader& reader, const std::vector<std::vector<std::byte>>& content, std::uint64_t seed) {
  constexpr std::uint32_t kMost = 12 * kBlock;  // per read
  constexpr std::size_t kLongest = 70;          // reads per batch, more than the depth
  const bool direct = reader.choice().direct;
  const Buffer buffer = Buffer::allocate(kLongest * kMost, "test");
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random);
  };
  for (int batch = 0; batch < 12; ++batch) {
    struct Wanted {
      Read read;
      bool done = false;
    };
    std::vector<Wanted> wanted(below(kLongest + 1));
    std::vector<Read> reads;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      Read& read = wanted[i].read;
      read.file = static_cast<int>(below(content.size()));
      const std::uint64_t size = content[static_cast<std::size_t>(read.file)].size();
      const std::uint64_t offset = below(size);
      const std::uint64_t bytes = below(std::min<std::uint64_t>(size - offset, kMost - 2 * kBlock) + 1);
      const Window w = window(offset, bytes);
      read.offset = direct ? w.offset : offset;
      read.length = direct ? w.length : static_cast<std::uint32_t>(bytes + below(100));
      read.needed = static_cast<std::uint32_t>(direct ? (bytes == 0 ? 0 : w.shift + bytes) : bytes);
      read.dest = buffer.data() + i * kMost;
      read.tag = i;
      reads.push_back(read);
    }
    std::fill(buffer.data(), buffer.data() + buffer.size(), std::byte{0xEE});
    const std::size_t half = reads.size() / 2;
    std::vector<Completion> done(below(20) + 1);
    const auto poll = [&](bool wait) {
      const std::size_t count = reader.poll(done, wait);
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(done[i].error, "");
        EXPECT_FALSE(std::exchange(wanted[done[i].tag].done, true)) << "completed twice";
      }
      return count;
    };
    reader.submit(std::span(reads).first(half));
    poll(false);
    reader.submit(std::span(reads).subspan(half));
    while (reader.outstanding() > 0) ASSERT_GT(poll(true), 0u);
    for (const auto& [read, completed] : wanted) {
      ASSERT_TRUE(completed);
      const auto& file = content[static_cast<std::size_t>(read.file)];
      EXPECT_TRUE(std::equal(read.dest, read.dest + read.needed, file.data() + read.offset));
    }
  }
}

class ReaderOverFaults : public ::testing::TestWithParam<int> {};

TEST_P(ReaderOverFaults, BringsTheBytesOfTheFile) {
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const bool direct = seed % 2 == 0;
  std::mt19937_64 random(seed);
  bool failed_before = false;  // an EIO is followed by something better, whichever read it hits
  FakeDevice device;
  device.content = random_bytes(40 * kBlock + 123, seed);
  const auto script = [&](const IoOp& op, std::size_t) -> Outcome {
    if (direct) {
      EXPECT_THAT((std::vector<std::uint64_t>{op.offset, op.length, reinterpret_cast<std::uintptr_t>(op.dest)}),
                  Each(::testing::ResultOf([](std::uint64_t value) { return value % kBlock; }, 0u)));
    }
    const auto dice = random() % 8;
    if (dice == 0) return {.error = EINTR};
    if (dice == 1) return {.error = EAGAIN};
    if (dice < 5) return {.at_most = 1 + static_cast<std::uint32_t>(random() % (3 * kBlock))};
    if (dice == 5 && !std::exchange(failed_before, true)) return {.error = EIO};
    return {};
  };
  Reader reader(std::make_unique<FakeEngine>(device, 1 + static_cast<unsigned>(seed % 9), script, seed + 1), direct);
  reader.add_file(kAnyFile);
  check_random_reads(reader, {device.content}, seed);
  EXPECT_GT(reader.stats().short_reads, 0u);
  EXPECT_GT(reader.stats().retries, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReaderOverFaults, ::testing::Range(1, 13));

TEST(ReaderOverEngines, BringTheSameBytesDirectAndBuffered) {
  const ScratchDirectory scratch;
  std::vector<std::vector<std::byte>> content;
  for (const std::size_t bytes : {1u, 5000u, 100 * kBlock + 1, 300 * kBlock}) {
    content.push_back(random_bytes(bytes, bytes));
    scratch.write(std::to_string(content.size()), content.back());
  }
  const auto add_files = [&](Reader& reader) {
    for (std::size_t i = 1; i <= content.size(); ++i) reader.add_file(scratch.path() / std::to_string(i));
  };
  std::size_t tried = 0;
  for (const IoEngineEntry& entry : io_engines()) {
    // What open() finds to work here, then the same engine buffered. The depth is below the length of the batches.
    Reader reader = Reader::open(entry.name, scratch.path() / "4", 16);
    if (reader.choice().engine != entry.name) continue;  // io_uring is forbidden here; io_choice_test has that case
    add_files(reader);
    check_random_reads(reader, content, 1);
    EXPECT_EQ(reader.stats().max_in_flight, 16u);
    Reader buffered(entry.create(16), false);
    add_files(buffered);
    check_random_reads(buffered, content, 2);
    ++tried;
  }
  EXPECT_GE(tried, 1u);
}

/// Interrupts the thread that made it with signals, one after the other, for as long as it lives.
class Interruptions {
 public:
  Interruptions() : target_(pthread_self()) {
    struct sigaction action {};  // without SA_RESTART: system calls end early
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, &former_);
    thread_ = std::thread([this] {
      while (!stopping_) pthread_kill(target_, SIGUSR1);
    });
  }
  ~Interruptions() {
    stopping_ = true;
    thread_.join();
    sigaction(SIGUSR1, &former_, nullptr);
  }
  Interruptions(const Interruptions&) = delete;
  Interruptions& operator=(const Interruptions&) = delete;

 private:
  const pthread_t target_;
  struct sigaction former_ {};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

TEST(ReaderOverEngines, SignalsTakeNothingAway) {
  const ScratchDirectory scratch;
  const std::vector<std::vector<std::byte>> content{random_bytes(300 * kBlock, 5)};
  const auto path = scratch.write("file", content[0]);
  for (const IoEngineEntry& entry : io_engines()) {
    Reader reader = Reader::open(entry.name, path, 16);
    reader.add_file(path);
    const Interruptions interruptions;
    check_random_reads(reader, content, 3);
  }
}

TEST(ReaderOverEngines, ReportAFileThatWasTruncatedAfterItWasOpened) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("file", random_bytes(10 * kBlock, 1));
  for (const IoEngineEntry& entry : io_engines()) {
    std::filesystem::resize_file(path, 10 * kBlock);
    Reader reader = Reader::open(entry.name, path);
    reader.add_file(path);
    std::filesystem::resize_file(path, 3 * kBlock + 5);
    const Buffer buffer = Buffer::allocate(10 * kBlock, "test");
    const Read read{.length = 10 * kBlock, .needed = 10 * kBlock, .dest = buffer.data()};
    reader.submit({&read, 1});
    Completion done;
    ASSERT_EQ(reader.poll({&done, 1}, true), 1u);
    EXPECT_EQ(done.error,
              path.string() + ": ends at byte 12293, expected 40960 or more: truncated, or changed while running");
  }
}

/// How many pages of a file are in the page cache.
std::size_t cached_pages(const std::filesystem::path& path) {
  const InputFile file = InputFile::open(path);
  void* address = mmap(nullptr, file.bytes(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  std::vector<unsigned char> resident((file.bytes() + kBlock - 1) / kBlock);
  EXPECT_EQ(mincore(address, file.bytes(), resident.data()), 0);
  munmap(address, file.bytes());
  return static_cast<std::size_t>(
      std::count_if(resident.begin(), resident.end(), [](auto flags) { return flags & 1; }));
}

TEST(ReaderOverEngines, LeaveNothingInThePageCache) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("file", random_bytes(50 * kBlock, 1));
  const InputFile file = InputFile::open(path);
  fsync(file.descriptor());  // only clean pages can be dropped
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  const std::size_t before = cached_pages(path);  // 0, or all on a file system that lives in memory
  for (const IoEngineEntry& entry : io_engines()) {
    const IoChoice choice = Reader::open(entry.name, path).choice();
    if (choice.engine != entry.name) continue;  // io_uring is forbidden here
    for (const bool use_direct : {false, choice.direct}) {
      Reader reader(entry.create(4), use_direct);
      reader.add_file(path);
      const Buffer buffer = Buffer::allocate(50 * kBlock, "test");
      // A buffered read may begin and end inside a page.
      const std::uint32_t begin = use_direct ? 0 : 100;
      const Read read{.offset = begin, .length = 48 * kBlock, .needed = 48 * kBlock, .dest = buffer.data()};
      reader.submit({&read, 1});
      Completion done;
      ASSERT_EQ(reader.poll({&done, 1}, true), 1u);
      EXPECT_EQ(done.error, "");
      EXPECT_EQ(cached_pages(path), before) << entry.name << (use_direct ? " direct" : " buffered");
    }
  }
}

TEST(ReaderOverEngines, MayBeDroppedWithReadsInFlight) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("file", random_bytes(64 * kBlock, 1));
  for (const IoEngineEntry& entry : io_engines()) {
    const Buffer buffer = Buffer::allocate(64 * kBlock, "test");
    Reader reader = Reader::open(entry.name, path, 8);
    reader.add_file(path);
    std::vector<Read> reads;
    for (std::uint32_t i = 0; i < 64; ++i) {
      reads.push_back({.offset = i * kBlock, .length = kBlock, .needed = kBlock, .dest = buffer.data() + i * kBlock});
    }
    reader.submit(reads);
  }  // the reader goes first: a read that still ran would write to memory that is gone, and the sanitizer would see it
}

}  // namespace
}  // namespace sluice::stream
