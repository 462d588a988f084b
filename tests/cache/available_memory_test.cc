#include "cache/available_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "base/error.h"
#include "base/units.h"

namespace sluice::cache {
namespace {

// A small stand-in for "/" with the kernel's files.
class FakeRoot : public ::testing::Test {
 protected:
  FakeRoot() {
    std::string pattern = ::testing::TempDir() + "sluice_root_XXXXXX";
    root_ = mkdtemp(pattern.data());
    write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
  }
  ~FakeRoot() override { std::filesystem::remove_all(root_); }

  void write(const std::filesystem::path& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void write_v2_group(const std::filesystem::path& group, const std::string& limit, std::uint64_t usage,
                      std::uint64_t file_cache) {
    const std::filesystem::path path = "sys/fs/cgroup" / group;
    write(path / "memory.max", limit + "\n");
    write(path / "memory.current", std::to_string(usage) + "\n");
    write(path / "memory.stat", "anon 5\nfile 77\ninactive_file " + std::to_string(file_cache) + "\nactive_file 0\n");
  }

  std::filesystem::path root_;
};

TEST_F(FakeRoot, WithoutGroupsItIsMemAvailable) {
  const AvailableMemory available = available_memory(root_);
  EXPECT_EQ(available.bytes, 8 * kGiB);
  EXPECT_EQ(available.origin, "MemAvailable");
}

TEST_F(FakeRoot, AVersion2GroupLowersIt) {
  write("proc/self/cgroup", "0::/user.slice/job\n");
  write_v2_group("user.slice/job", std::to_string(2 * kGiB), kGiB, kGiB / 4);
  const AvailableMemory available = available_memory(root_);
  EXPECT_EQ(available.bytes, kGiB + kGiB / 4) << "file caches can be dropped";
  EXPECT_THAT(available.origin, ::testing::HasSubstr("user.slice/job/memory.max"));
}

TEST_F(FakeRoot, EveryGroupOnTheWayUpCounts) {
  write("proc/self/cgroup", "0::/outer/inner\n");
  write_v2_group("outer/inner", "max", 0, 0);
  write_v2_group("outer", std::to_string(3 * kGiB), kGiB, 0);
  EXPECT_EQ(available_memory(root_).bytes, 2 * kGiB);
}

TEST_F(FakeRoot, AGroupThatIsOverItsLimitHasNothingLeft) {
  write("proc/self/cgroup", "0::/job\n");
  write_v2_group("job", std::to_string(kGiB), 2 * kGiB, 0);
  EXPECT_EQ(available_memory(root_).bytes, 0u);
}

TEST_F(FakeRoot, AVersion1GroupLowersItAndItsTotalsIncludeChildren) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(kGiB));
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(kGiB / 2));
  write("sys/fs/cgroup/memory/job/memory.stat",
        "inactive_file 1\nactive_file 1\ntotal_inactive_file 4096\ntotal_active_file 8192\n");
  EXPECT_EQ(available_memory(root_).bytes, kGiB / 2 + 12288);
}

TEST_F(FakeRoot, AContainerThatSeesItsGroupAsTheRootOfTheMountIsHeld) {
  write("proc/self/cgroup", "4:memory:/docker/0123abcd\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(kGiB));
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "0");
  EXPECT_EQ(available_memory(root_).bytes, kGiB);
}

TEST_F(FakeRoot, UnlimitedGroupsChangeNothing) {
  write("proc/self/cgroup", "4:memory:/\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
  write_v2_group("", "max", 5, 0);
  EXPECT_EQ(available_memory(root_).origin, "MemAvailable");
}

TEST_F(FakeRoot, WithoutMemAvailableItIsAnErrorThatSaysWhatToDo) {
  write("proc/meminfo", "MemTotal: 5 kB\n");
  EXPECT_THROW(available_memory(root_), Error);
}

TEST_F(FakeRoot, TheLimitAboveWhichAGroupIsSlowedDownCountsToo) {
  write("proc/self/cgroup", "0::/job\n");
  write_v2_group("job", std::to_string(4 * kGiB), kGiB, 0);
  write("sys/fs/cgroup/job/memory.high", std::to_string(3 * kGiB));
  EXPECT_EQ(available_memory(root_).bytes, 2 * kGiB);
  EXPECT_TRUE(available_memory(root_).limited_group);
}

TEST_F(FakeRoot, AnEndlessFileIsReadInPart) {
  write("proc/self/cgroup", "0::/job\n");
  write_v2_group("job", std::string(1 << 20, '1'), kGiB, 0);
  EXPECT_EQ(available_memory(root_).origin, "MemAvailable");
}

constexpr const char* kPsi =
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=%\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";

std::string psi(const std::string& total) {
  std::string text = kPsi;
  return text.replace(text.find('%'), 1, total);
}

TEST_F(FakeRoot, StallsAreThoseOfTheInnermostGroupThatTellsThem) {
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("proc/pressure/memory", psi("1"));
  EXPECT_EQ(read_memory_pressure(root_).stall_microseconds, 1u);
  write("sys/fs/cgroup/outer/memory.pressure", psi("2"));
  std::filesystem::create_directories(root_ / "sys/fs/cgroup/outer/inner");
  EXPECT_EQ(read_memory_pressure(root_).stall_microseconds, 2u);
  write("sys/fs/cgroup/outer/inner/memory.pressure", psi("33"));
  EXPECT_EQ(read_memory_pressure(root_).stall_microseconds, 33u);
  EXPECT_EQ(read_memory_pressure(root_).available.bytes, 8 * kGiB);
}

TEST_F(FakeRoot, AKernelWithoutPressureFilesTellsNoStalls) {
  EXPECT_EQ(read_memory_pressure(root_).stall_microseconds, std::nullopt);
}

TEST(StallMicroseconds, IsTheTotalOfTheSomeLine) {
  EXPECT_EQ(parse_stall_microseconds(psi("123456789012")), 123456789012u);
  EXPECT_EQ(parse_stall_microseconds("full avg10=0.00 total=3\n"), std::nullopt);
  EXPECT_EQ(parse_stall_microseconds("some avg10=0.00 total=x\n"), std::nullopt);
  EXPECT_EQ(parse_stall_microseconds("some avg10=0.00\n"), std::nullopt);
  EXPECT_EQ(parse_stall_microseconds(psi("99999999999999999999999")), std::nullopt);
  EXPECT_EQ(parse_stall_microseconds(""), std::nullopt);
}

TEST(ResidentPages, AreTheSecondNumber) {
  EXPECT_EQ(parse_resident_pages("1000 250 30 4 0 500 0\n"), 250u);
  EXPECT_EQ(parse_resident_pages("1000"), std::nullopt);
  EXPECT_EQ(parse_resident_pages("1000 x 3"), std::nullopt);
  EXPECT_GT(read_memory_pressure().resident_bytes, kMiB);
}

TEST(HugePageBytes, AreReadFromTheRollup) {
  EXPECT_EQ(parse_huge_page_bytes("00400000-7fff ---p 0 00:00 0 [rollup]\nRss: 9 kB\nAnonHugePages:    2048 kB\n"),
            2 * kMiB);
  EXPECT_EQ(parse_huge_page_bytes("Rss: 9 kB\n"), std::nullopt);
}

TEST(AvailableMemory, ThisMachineHasSome) { EXPECT_GT(available_memory().bytes, 0u); }

TEST(MemAvailable, IsReadInKiBAndNothingElseIsTaken) {
  EXPECT_EQ(parse_mem_available("MemAvailable:  12 kB"), 12u * 1024);
  EXPECT_EQ(parse_mem_available(""), std::nullopt);
  EXPECT_EQ(parse_mem_available("MemAvailable: twelve kB\n"), std::nullopt);
  EXPECT_EQ(parse_mem_available("XMemAvailable: 12 kB\n"), std::nullopt);
}

TEST(CgroupLimit, IsANumberOrUnlimited) {
  EXPECT_EQ(parse_cgroup_limit("4096\n"), 4096u);
  EXPECT_EQ(parse_cgroup_limit("0"), 0u);
  EXPECT_EQ(parse_cgroup_limit("max\n"), std::nullopt);
  EXPECT_EQ(parse_cgroup_limit("9223372036854771712\n"), std::nullopt);
  EXPECT_EQ(parse_cgroup_limit(""), std::nullopt);
}

}  // namespace
}  // namespace sluice::cache
