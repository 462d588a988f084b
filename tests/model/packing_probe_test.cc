#include "model/packing_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "base/error.h"
#include "base/units.h"
#include "cache/part_reads.h"
#include "stream/scratch.h"
#include "stream/timed_engine.h"

namespace sluice::model {
namespace {

using stream::IoOp;
using ::testing::HasSubstr;

constexpr int kExperts = 16;
constexpr double kPerRead = 28e-6;    // seconds
constexpr double kPerByte = 1 / 2e9;  // seconds
constexpr std::uint64_t kFileBytes = 48 * kMiB;

/// Experts of three projections, each of codes, scales and biases, every one a stack of its own.
ExpertLayout stacked() {
  ExpertLayout layout;
  layout.records = {kExperts, 9, {}};
  for (std::uint64_t e = 0; e < kExperts; ++e) {
    std::uint64_t stack = 0;  // where it begins
    for (int part = 0; part < 9; ++part) {
      const std::uint64_t bytes = (part % 3 == 0 ? 768 : 48) * kKiB;
      layout.records.slices.push_back({0, stack + e * bytes, bytes});
      stack += kExperts * bytes;
    }
  }
  return layout;
}

/// A drive that serves one request after the other.
struct Drive {
  explicit Drive(stream::TimedEngine::Cost cost = [](const IoOp& op, std::size_t) {
    return kPerRead + op.length * kPerByte;
  }) {
    device.content.resize(kFileBytes);
    reader =
        std::make_unique<stream::Reader>(std::make_unique<stream::TimedEngine>(device, now, std::move(cost)), false);
    reader->add_file("/proc/self/exe");
  }
  std::optional<PackingRates> run(const std::vector<ExpertLayout>& experts) {
    return probe_packing(experts, files, *reader, {}, [this] { return now; });
  }

  stream::FakeDevice device;
  double now = 0;
  std::vector<stream::FileInfo> files{{"fake", kFileBytes}};
  std::unique_ptr<stream::Reader> reader;
};

TEST(PackingProbe, CountsWhatRequestsCost) {
  Drive drive;
  const auto rates = drive.run({stacked()});
  ASSERT_TRUE(rates.has_value());
  EXPECT_EQ(rates->slices, 9);
  const double bytes = 3 * (768 + 2 * 48) * 1024.0;
  const double reads = std::ceil(bytes / cache::kMaxReadBytes);
  EXPECT_NEAR(rates->scattered, bytes / (9 * kPerRead + bytes * kPerByte), 1e6);
  EXPECT_NEAR(rates->record, bytes / (reads * kPerRead + bytes * kPerByte), 1e6);
  EXPECT_NEAR(rates->gain(), rates->record / rates->scattered, 1e-12);
  EXPECT_GE(drive.now, 0.25);
  EXPECT_LT(drive.now, 0.3);
}

TEST(PackingProbe, ADriveOfBytesAloneGainsNothing) {
  Drive drive([](const IoOp& op, std::size_t) { return op.length * kPerByte; });
  EXPECT_NEAR(drive.run({stacked()})->gain(), 1, 1e-6);
}

TEST(PackingProbe, ASlowDriveReadsOneBurstOfEach) {
  Drive drive([](const IoOp&, std::size_t) { return 1.0; });
  ASSERT_TRUE(drive.run({stacked()}).has_value());
  EXPECT_EQ(drive.device.log.size(), kBurstExperts * (9U + 3U));
}

TEST(PackingProbe, WithoutSlicesOrRoomThereIsNothingToCompare) {
  Drive drive;
  EXPECT_FALSE(drive.run({}).has_value());
  ExpertLayout packed;
  packed.records = {2, 2, {{0, 0, 10}, {0, 10, 10}, {0, 20, 10}, {0, 30, 10}}};
  EXPECT_FALSE(drive.run({packed}).has_value());
  packed.records = {2, 2, {{0, 0, 10}, {0, 18, 10}, {0, 30, 10}, {0, 48, 10}}};
  EXPECT_FALSE(drive.run({packed}).has_value()) << "a few bytes apart: read in one range";
  drive.files.front().bytes = kMiB;
  EXPECT_FALSE(drive.run({stacked()}).has_value());
  EXPECT_TRUE(drive.device.log.empty());
}

TEST(PackingProbe, AReadThatFailsIsNamed) {
  Drive drive;
  drive.device.content.resize(kMiB);
  EXPECT_THAT(stream::message_of<Error>([&] { drive.run({stacked()}); }), HasSubstr("/proc/self/exe"));
}

}  // namespace
}  // namespace sluice::model
