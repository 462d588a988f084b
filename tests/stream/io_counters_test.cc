#include "stream/io_counters.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <vector>

#include "base/memory.h"
#include "base/units.h"
#include "stream/input_file.h"
#include "stream/reader.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

TEST(ParseProcessIo, FindsItsCounters) {
  const auto io = parse_process_io(
      "rchar: 11\nwchar: 22\nsyscr: 33\nsyscw: 44\nread_bytes: 55\nwrite_bytes: 66\ncancelled_write_bytes: 0\n");
  ASSERT_TRUE(io.has_value());
  EXPECT_EQ(io->rchar, 11u);
  EXPECT_EQ(io->syscr, 33u);
  EXPECT_EQ(io->read_bytes, 55u);
}

TEST(ParseProcessIo, GivesNothingForWhatItDoesNotUnderstand) {
  for (const char* text : {"", "\n\n", "rchar: 1\nsyscr: 2\n", "rchar: x\nsyscr: 2\nread_bytes: 3\n",
                           "rchar: 1 kB\nsyscr: 2\nread_bytes: 3\n", "rchar:1\nsyscr: 2\nread_bytes: 3\n",
                           "rchar: 99999999999999999999\nsyscr: 2\nread_bytes: 3\n"}) {
    EXPECT_FALSE(parse_process_io(text).has_value()) << text;
  }
}

TEST(ReadProcessIo, SeesAReadOfThisProcess) {
  const ScratchDirectory scratch;
  const InputFile file = InputFile::open(scratch.write("file", random_bytes(100'000, 1)));
  const auto before = read_process_io();
  std::vector<std::byte> bytes(100'000);
  ASSERT_EQ(file.read_at(0, bytes), bytes.size());
  const auto after = read_process_io();
  ASSERT_TRUE(before && after);
  EXPECT_GE(after->rchar, before->rchar + bytes.size());
  EXPECT_GT(after->syscr, before->syscr);
}

/// Whether files in `directory` lie on a device. tmpfs takes O_DIRECT on newer kernels and still reads from memory.
bool has_device(const std::filesystem::path& directory) {
  struct statfs status {};
  EXPECT_EQ(statfs(directory.c_str(), &status), 0);
  return status.f_type != TMPFS_MAGIC;
}

// The statistics that users see are true: with direct reads, every byte counted was fetched from the device.
TEST(IoStats, AgreeWithTheKernelWithinTwoPercentWhenReadsAreDirect) {
  const ScratchDirectory scratch;
  constexpr std::uint32_t kPiece = 256 * kKiB;
  constexpr std::uint32_t kPieces = 96;
  const auto path = scratch.write("file", random_bytes(std::size_t{kPiece} * kPieces, 1));
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  fsync(descriptor);  // or the direct reads would wait for it
  close(descriptor);
  for (const char* engine : {"uring", "pread"}) {
    Reader reader = Reader::open(engine, path, 16);
    reader.add_file(path);
    const Buffer buffer = Buffer::allocate(std::size_t{kPiece} * kPieces, "test");
    std::vector<Read> reads;
    for (std::uint32_t i = 0; i < kPieces; ++i) {
      reads.push_back({.offset = std::uint64_t{i} * kPiece,
                       .length = kPiece,
                       .needed = kPiece,
                       .dest = buffer.data() + std::size_t{i} * kPiece});
    }
    const auto before = read_process_io();
    reader.submit(reads);
    std::vector<Completion> done(16);
    while (reader.outstanding() > 0) {
      const std::size_t count = reader.poll(done, true);
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(done[i].error, "");
    }
    const auto after = read_process_io();
    ASSERT_TRUE(before && after);
    const auto counted = static_cast<double>(reader.stats().bytes);
    EXPECT_EQ(counted, double{kPiece} * kPieces);
    if (reader.choice().direct) {
      const double from_device = has_device(scratch.path()) ? counted : 0;
      EXPECT_NEAR(static_cast<double>(after->read_bytes - before->read_bytes), from_device, 0.02 * counted) << engine;
    } else {
      EXPECT_NE(reader.choice().reason, "") << "buffered reads are explained";
    }
  }
}

}  // namespace
}  // namespace sluice::stream
