#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/memory.h"
#include "stream/reader.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Makes io_uring_setup fail with EPERM in this process, as container runtimes do. Irrevocable.
void forbid_io_uring() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::perror("seccomp");
    std::exit(1);
  }
}

/// Opens a reader of that name over `sample` and tells on stderr what was chosen.
void open_and_tell(const char* wanted, const std::filesystem::path& sample) {
  const Reader reader = Reader::open(wanted, sample);
  std::fprintf(stderr, "engine=%s reason=%s.\n", reader.choice().engine.c_str(), reader.choice().reason.c_str());
  std::exit(0);
}

class IoChoiceTest : public ::testing::Test {
 protected:
  const ScratchDirectory scratch_;
  const std::filesystem::path sample_ = scratch_.write("sample", random_bytes(10'000, 1));
};

using IoChoiceDeathTest = IoChoiceTest;

TEST_F(IoChoiceDeathTest, FallsBackToPreadWhereIoUringIsForbidden) {
  EXPECT_EXIT((forbid_io_uring(), open_and_tell("", sample_)), ::testing::ExitedWithCode(0),
              "engine=pread reason=io_uring: Operation not permitted .*seccomp");
}

TEST_F(IoChoiceDeathTest, SaysSoWhenIoUringWasRequested) {
  EXPECT_EXIT((forbid_io_uring(), open_and_tell("uring", sample_)), ::testing::ExitedWithCode(0),
              "engine=pread reason=requested --io uring, got pread because io_uring: Operation not permitted");
}

TEST_F(IoChoiceTest, GivesPreadWithoutComplaintWhenAsked) {
  const Reader reader = Reader::open("pread", sample_);
  EXPECT_EQ(reader.choice().engine, "pread");
  // The only thing to explain is a file system without O_DIRECT.
  EXPECT_EQ(reader.choice().reason.empty(), reader.choice().direct) << reader.choice().reason;
}

TEST_F(IoChoiceTest, ReadsWhatIsNotMappedThroughTheBestEngine) {
  const Reader best = Reader::open("", sample_);
  const Reader reader = Reader::open("mmap", sample_);
  EXPECT_EQ(reader.choice().engine, best.choice().engine);
  EXPECT_EQ(reader.choice().reason, best.choice().reason);
}

TEST_F(IoChoiceTest, RefusesUnknownNames) {
  EXPECT_EQ(message_of<UsageError>([&] { Reader::open("aio", sample_); }),
            "--io: 'aio' is not known; use uring, pread or mmap");
}

TEST_F(IoChoiceTest, RefusesASampleThatIsMissing) {
  const auto missing = scratch_.path() / "missing";
  EXPECT_THAT(message_of<Error>([&] { Reader::open("", missing); }),
              HasSubstr(missing.string() + ": cannot be opened"));
}

TEST_F(IoChoiceTest, StartsWithoutFilesAndWithoutCounts) {
  Reader reader = Reader::open("", sample_);
  EXPECT_EQ(reader.stats().reads, 0u);
  EXPECT_EQ(reader.add_file(sample_), 0);
  EXPECT_EQ(reader.add_file(sample_), 1);
}

TEST_F(IoChoiceTest, WorksOverSamplesShorterThanABlock) {
  for (const char* content : {"", "x"}) {
    EXPECT_EQ(Reader::open("pread", scratch_.write("short", content)).choice().engine, "pread");
  }
}

// procfs serves regular files and refuses O_DIRECT at open, on every kernel.
TEST_F(IoChoiceTest, ReadsBufferedWhereTheFileSystemHasNoDirectReads) {
  const std::filesystem::path sample = "/proc/version";
  for (const char* wanted : {"", "pread"}) {
    const Reader reader = Reader::open(wanted, sample);
    EXPECT_EQ(reader.choice().engine, "pread");
    EXPECT_FALSE(reader.choice().direct);
    EXPECT_THAT(reader.choice().reason, HasSubstr("/proc/version: cannot be opened with O_DIRECT: Invalid argument"));
  }
}

}  // namespace
}  // namespace sluice::stream
