#include "base/cgroup.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace sluice {
namespace {

namespace fs = std::filesystem;

/// A directory that looks like /sys/fs/cgroup.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() : mount_(fs::path(testing::TempDir()) / ("sluice_cgroup_test_" + std::to_string(getpid()))) {
    fs::remove_all(mount_);
    fs::create_directories(mount_);
  }
  ~CgroupTest() override { fs::remove_all(mount_); }

  void write(const std::string& file, const std::string& text) {
    fs::create_directories((mount_ / file).parent_path());
    std::ofstream(mount_ / file) << text;
  }
  auto cpu_quota(const std::string& membership) const {
    return cgroup_cpu_quota(cgroup_directories("cpu", membership, mount_));
  }

  const fs::path mount_;
};

TEST_F(CgroupTest, DirectoriesRunFromTheGroupOfTheProcessToTheRoot) {
  fs::create_directories(mount_ / "user/app");
  EXPECT_EQ(cgroup_directories("cpu", "0::/user/app\n", mount_),
            (std::vector<fs::path>{mount_ / "user/app", mount_ / "user", mount_}));
}

TEST_F(CgroupTest, VersionTwoQuotaIsTheSmallestOnTheWayUp) {
  write("cpu.max", "max 100000\n");
  write("user/cpu.max", "150000 100000\n");
  write("user/app/cpu.max", "400000 100000\n");
  EXPECT_EQ(cpu_quota("0::/user/app\n"), 1.5);
}

TEST_F(CgroupTest, VersionOneQuotaIsFoundUnderItsController) {
  write("cpu/job/cpu.cfs_quota_us", "200000\n");
  write("cpu/job/cpu.cfs_period_us", "50000\n");
  write("cpu/cpu.cfs_quota_us", "-1\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota("5:cpuacct,cpu:/job\n3:memory:/\n"), 4.0);
  EXPECT_EQ(cpu_quota("5:cpuacct,cpu:/\n"), std::nullopt);
  EXPECT_EQ(cpu_quota("5:cpuset:/job\n"), std::nullopt) << "a controller whose name only begins alike";
}

TEST_F(CgroupTest, InAContainerThePathOfTheHostIsNotThereAndTheRootCounts) {
  write("cpu/cpu.cfs_quota_us", "100000\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota("4:cpu,cpuacct:/docker/0123456789abcdef\n"), 1.0);
}

TEST_F(CgroupTest, APathOutsideOfTheNamespaceMeansTheRoot) {
  write("cpu.max", "100000 100000\n");
  EXPECT_EQ(cpu_quota("0::/../../other\n"), 1.0);
}

TEST_F(CgroupTest, BothVersionsBesideEachOther) {
  write("unified/app/cpu.max", "500000 100000\n");
  write("cpu/app/cpu.cfs_quota_us", "300000\n");
  write("cpu/app/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cpu_quota("9:cpu:/app\n0::/app\n"), 3.0);
}

TEST_F(CgroupTest, TextThatMakesNoSenseIsNoLimit) {
  for (const std::string text : {"lots of it\n", "-5 100000\n", "100000\n", "100000 0\n", ""}) {
    write("cpu.max", text);
    EXPECT_EQ(cpu_quota("0::/\n"), std::nullopt) << text;
  }
  write("cpu.max", "100000 100000\n");
  for (const std::string membership : {"", "\n", "::::\n", "no colons\n"}) {
    EXPECT_EQ(cpu_quota(membership), std::nullopt) << membership;
  }
  EXPECT_EQ(cgroup_cpu_quota({mount_ / "missing"}), std::nullopt);
}

}  // namespace
}  // namespace sluice
