#include "stream/drive_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "base/units.h"
#include "stream/fake_engine.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

/// A probe of one file on a scripted device, with a clock that advances by a hundredth of a second per look.
struct Probe {
  explicit Probe(std::size_t file_bytes, FakeEngine::Script script = {}) : files{{"fake", file_bytes}} {
    device.content.resize(file_bytes);
    reader = std::make_unique<Reader>(std::make_unique<FakeEngine>(device, 8, std::move(script)), false);
    reader->add_file("/proc/self/exe");
  }

  double run(const DriveProbeOptions& options = {}) {
    return probe_bandwidth(*reader, files, options, [this] { return 0.01 * static_cast<double>(looks++); });
  }

  FakeDevice device;
  std::vector<FileInfo> files;
  std::unique_ptr<Reader> reader;
  int looks = 0;
};

TEST(ProbeBandwidth, IsBytesOverTime) {
  Probe probe(20 * kMiB + 77);
  const double bandwidth = probe.run();
  EXPECT_DOUBLE_EQ(bandwidth, static_cast<double>(probe.reader->stats().bytes) / (0.01 * (probe.looks - 1)));
  EXPECT_EQ(probe.reader->outstanding(), 0u);
}

TEST(ProbeBandwidth, StartsNoReadAfterItsTime) {
  Probe brief(20 * kMiB);
  brief.run({.seconds = 0, .depth = 4});
  EXPECT_EQ(brief.device.log.size(), 4u);
  Probe longer(20 * kMiB);
  longer.run({.seconds = 0.5, .depth = 4});
  EXPECT_GT(longer.device.log.size(), 40u);
}

TEST(ProbeBandwidth, ReadsAlignedWindowsOfTheSizesOfExpertSlices) {
  Probe probe(20 * kMiB + 77);
  probe.run({.seconds = 2});
  std::set<std::uint32_t> lengths;
  std::set<std::uint64_t> offsets;
  for (const IoOp& op : probe.device.log) {
    EXPECT_EQ(op.offset % kIoAlignment, 0u);
    EXPECT_EQ(op.length % kIoAlignment, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(op.dest) % kIoAlignment, 0u);
    EXPECT_LE(op.offset + op.length, round_up(probe.files[0].bytes, kIoAlignment));
    lengths.insert(op.length);
    offsets.insert(op.offset);
  }
  for (const std::uint64_t length : {256 * kKiB, 512 * kKiB, kMiB}) {
    EXPECT_TRUE(lengths.contains(static_cast<std::uint32_t>(length))) << length;
  }
  EXPECT_GT(offsets.size(), probe.device.log.size() / 2) << "offsets are spread";
}

TEST(ProbeBandwidth, ReadsTinyFilesOnce) {
  Probe probe(3 * kMiB + 5);
  EXPECT_GT(probe.run({.seconds = 100}), 0);
  EXPECT_EQ(probe.reader->stats().bytes, 3 * kMiB + 5);
}

TEST(ProbeBandwidth, IsZeroWhenThereIsNothingToRead) {
  Probe probe(0);
  EXPECT_EQ(probe.run(), 0);
  EXPECT_TRUE(probe.device.log.empty());
}

TEST(ProbeBandwidth, ReportsAFailedRead) {
  Probe probe(20 * kMiB, [](const IoOp&, std::size_t) { return Outcome{.error = EINVAL}; });
  EXPECT_THAT(message_of<Error>([&] { probe.run(); }), ::testing::HasSubstr("Invalid argument"));
}

TEST(ProbeBandwidth, CoversSeveralFilesOfARealDrive) {
  const ScratchDirectory scratch;
  std::vector<FileInfo> files;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{3'000'001}, std::size_t{7'000'003}}) {
    files.push_back({scratch.write(std::to_string(files.size()), random_bytes(bytes, bytes)), bytes});
  }
  Reader reader = Reader::open("", files[1].path, 8);
  for (const FileInfo& file : files) reader.add_file(file.path);
  EXPECT_GT(probe_bandwidth(reader, files, {.seconds = 0.02}), 0);
  EXPECT_GT(probe_bandwidth(reader, std::span(files).first(2), {.seconds = 0.02}), 0);
}

}  // namespace
}  // namespace sluice::stream
