#include "stream/drive_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"
#include "stream/scratch.h"
#include "stream/timed_engine.h"

namespace sluice::stream {
namespace {

/// A probe of one file on such a device.
struct Probe {
  explicit Probe(std::size_t file_bytes, TimedEngine::Cost cost = at_rate(1e9)) : files{{"fake", file_bytes}} {
    device.content.resize(file_bytes);
    reader = std::make_unique<Reader>(std::make_unique<TimedEngine>(device, now, std::move(cost)), false);
    reader->add_file("/proc/self/exe");
  }

  static TimedEngine::Cost at_rate(double bytes_per_second) {
    return [=](const IoOp& op, std::size_t) { return op.length / bytes_per_second; };
  }

  DriveProbe run(const DriveProbeOptions& options = {}) {
    return probe_drive(*reader, files, options, [this] { return now; });
  }

  FakeDevice device;
  double now = 0;
  std::vector<FileInfo> files;
  std::unique_ptr<Reader> reader;
};

std::uint64_t bytes_of(const DriveProbe& probe) {
  std::uint64_t bytes = 0;
  for (const DriveProbeCell& cell : probe.cells) bytes += cell.bytes;
  return bytes;
}

TEST(ProbeDrive, IsBytesOverTimeInEveryCell) {
  Probe probe(40 * kMiB);
  const DriveProbe result = probe.run();
  ASSERT_EQ(result.cells.size(), 11U);
  double seconds = 0;
  for (const DriveProbeCell& cell : result.cells) {
    EXPECT_NEAR(cell.bytes_per_second(), 1e9, 1e6) << cell.slice_bytes << " x " << cell.depth;
    EXPECT_LE(cell.slice_bytes * cell.depth, kDriveProbeBytes);
    seconds += cell.seconds;
  }
  EXPECT_NEAR(result.bytes_per_second(), 1e9, 1e6);
  EXPECT_NEAR(result.latency, kIoAlignment / 1e9, 1e-12) << "of single blocks, and this drive starts at once";
  const std::uint64_t bytes = bytes_of(result) + kLatencyReads * kIoAlignment;
  EXPECT_EQ(bytes, probe.reader->stats().bytes);
  EXPECT_NEAR(seconds + kLatencyReads * result.latency, probe.now, 1e-9);
  EXPECT_EQ(probe.reader->outstanding(), 0U);
}

TEST(ProbeDrive, TheBestCellIsTheOneThatSuitsTheDrive) {
  // A drive that wants large reads, and one that wants many.
  Probe large(40 * kMiB, [](const IoOp& op, std::size_t) { return 1e-3 + op.length / 4e9; });
  const DriveProbe of_large = large.run();
  EXPECT_EQ(of_large.best()->slice_bytes, 2 * kMiB);
  Probe many(40 * kMiB, [](const IoOp& op, std::size_t in_flight) {
    return (op.length / 1e9) / (in_flight > 64 ? 2 : 1) * (op.length > 128 * kKiB ? 2 : 1);
  });
  const DriveProbe result = many.run();
  EXPECT_EQ(result.best()->slice_bytes, 128 * kKiB);
  EXPECT_EQ(result.best()->depth, 128U);
}

TEST(ProbeDrive, ADriveThatSlowsDownFavoursNoCell) {
  double now = 0;
  FakeDevice device;
  device.content.resize(40 * kMiB);
  const auto cost = [&](const IoOp& op, std::size_t) { return op.length / (1e9 * (1 - now / 4)); };
  Reader reader(std::make_unique<TimedEngine>(device, now, cost), false);
  reader.add_file("/proc/self/exe");
  const std::vector<FileInfo> files{{"fake", 40 * kMiB}};
  const DriveProbe result = probe_drive(reader, files, {.seconds = 2}, [&] { return now; });
  EXPECT_GT(now, 1.9);  // it lost half of its speed meanwhile
  double least = 1e12;
  double most = 0;
  for (const DriveProbeCell& cell : result.cells) {
    least = std::min(least, cell.bytes_per_second());
    most = std::max(most, cell.bytes_per_second());
  }
  EXPECT_LT(most / least, 1.05);
}

TEST(ProbeDrive, KeepsToItsTime) {
  Probe probe(40 * kMiB);
  probe.run({.seconds = 4});
  EXPECT_GE(probe.now, 4);
  EXPECT_LT(probe.now, 4 + 22 * 0.033);  // 22 turns, and a queue of 32 MiB at the end of each at most
}

TEST(ProbeDrive, ASlowDriveIsMeasuredInFewCells) {
  Probe probe(40 * kMiB, Probe::at_rate(10e6));
  const DriveProbe result = probe.run();
  EXPECT_LT(probe.now, 2);
  ASSERT_FALSE(result.cells.empty());
  EXPECT_LT(result.cells.size(), 11U);
  EXPECT_NEAR(result.bytes_per_second(), 10e6, 1e4);
}

TEST(ProbeDrive, ReadsAlignedSlicesFromSpreadOffsetsThatTheSeedDecides) {
  Probe probe(40 * kMiB + 77);
  probe.run();
  std::map<std::uint64_t, std::size_t> offsets;
  for (const IoOp& op : probe.device.log) {
    EXPECT_EQ(op.offset % kIoAlignment, 0U);
    EXPECT_EQ(op.length % kIoAlignment, 0U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(op.dest) % kIoAlignment, 0U);
    EXPECT_LE(op.offset + op.length, round_up(probe.files[0].bytes, kIoAlignment));
    ++offsets[op.offset];
  }
  EXPECT_GT(offsets.size(), probe.device.log.size() / 2) << "offsets are spread";

  const auto sequence = [](std::uint64_t seed) {
    Probe again(40 * kMiB + 77);
    again.run({.seed = seed});
    std::vector<std::pair<std::uint64_t, std::uint32_t>> reads;
    for (const IoOp& op : again.device.log) reads.emplace_back(op.offset, op.length);
    return reads;
  };
  EXPECT_EQ(sequence(7), sequence(7));
  EXPECT_NE(sequence(7), sequence(8));
}

TEST(ProbeDrive, ReadsTinyFilesOnce) {
  Probe probe(3 * kMiB + 5);
  const DriveProbe result = probe.run({.seconds = 100});
  ASSERT_EQ(result.cells.size(), 1U);
  EXPECT_GT(result.bytes_per_second(), 0);
  EXPECT_EQ(probe.reader->stats().bytes, 3 * kMiB + 5);
}

TEST(ProbeDrive, IsZeroWhenThereIsNothingToRead) {
  Probe probe(0);
  const DriveProbe result = probe.run();
  EXPECT_EQ(result.bytes_per_second(), 0);
  EXPECT_EQ(result.best(), nullptr);
  EXPECT_TRUE(probe.device.log.empty());
}

TEST(ProbeDrive, ReportsAFailedRead) {
  FakeDevice device;
  device.content.resize(20 * kMiB);
  const auto failing = [](const IoOp&, std::size_t) { return Outcome{.error = EINVAL}; };
  Reader reader(std::make_unique<FakeEngine>(device, 8, failing), false);
  reader.add_file("/proc/self/exe");
  const std::vector<FileInfo> files{{"fake", 20 * kMiB}};
  EXPECT_THAT(message_of<Error>([&] { probe_drive(reader, files); }), ::testing::HasSubstr("Invalid argument"));
}

TEST(ProbeDrive, CoversSeveralFilesOfARealDrive) {
  const ScratchDirectory scratch;
  std::vector<FileInfo> files;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{3'000'001}, std::size_t{7'000'003}}) {
    files.push_back({scratch.write(std::to_string(files.size()), random_bytes(bytes, bytes)), bytes});
  }
  Reader reader = Reader::open("", files[1].path, 8);
  for (const FileInfo& file : files) reader.add_file(file.path);
  EXPECT_GT(probe_drive(reader, files, {.seconds = 0.02}).bytes_per_second(), 0);
  EXPECT_GT(probe_drive(reader, std::span(files).first(2), {.seconds = 0.02}).bytes_per_second(), 0);
}

}  // namespace
}  // namespace sluice::stream
