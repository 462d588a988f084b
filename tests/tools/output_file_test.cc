// Result files: complete or not there.
#include "output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "model_copy.h"

namespace sluice::tools {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::read_file;
using testing::ScratchDirectory;

template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(OutputFile, AppearsAtCommitUnderItsName) {
  const ScratchDirectory scratch;
  OutputFile file(scratch / "result");
  file.write(std::string_view("one "));
  file.write(std::string_view("two"));
  EXPECT_FALSE(fs::exists(scratch / "result"));
  file.commit();
  EXPECT_EQ(read_file(scratch / "result"), "one two");
  EXPECT_THAT(scratch.names(), ElementsAre("result"));
}

TEST(OutputFile, LeavesNothingWithoutCommit) {
  const ScratchDirectory scratch;
  { OutputFile(scratch / "result").write(std::string_view("half")); }
  EXPECT_THAT(scratch.names(), IsEmpty());
}

TEST(OutputFile, KeepsTheOldFileWithoutCommit) {
  const ScratchDirectory scratch;
  scratch.write("result", "old");
  { OutputFile(scratch / "result").write(std::string_view("new")); }
  EXPECT_EQ(read_file(scratch / "result"), "old");
}

TEST(OutputFile, ReplacesTheOldFileAtCommit) {
  const ScratchDirectory scratch;
  scratch.write("result", "old and longer");
  OutputFile file(scratch / "result");
  file.write(std::string_view("new"));
  file.commit();
  EXPECT_EQ(read_file(scratch / "result"), "new");
  EXPECT_THAT(scratch.names(), ElementsAre("result"));
}

TEST(OutputFile, WritesThroughALinkWithoutReplacingIt) {
  const ScratchDirectory scratch;
  scratch.write("target", "old");
  fs::create_symlink(scratch / "target", scratch / "link");
  OutputFile file(scratch / "link");
  file.write(std::string_view("new"));
  file.commit();
  EXPECT_TRUE(fs::is_symlink(scratch / "link"));
  EXPECT_EQ(read_file(scratch / "target"), "new");
}

TEST(OutputFile, WritesToADeviceWithoutReplacingIt) {
  OutputFile file("/dev/null");
  file.write(std::string_view("gone"));
  file.commit();
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(OutputFile, HasThePermissionsOfAnyNewFile) {
  const ScratchDirectory scratch;
  const mode_t mask = umask(022);
  OutputFile file(scratch / "result");
  file.commit();
  umask(mask);
  EXPECT_EQ(fs::status(scratch / "result").permissions(), fs::perms(0644));
}

TEST(OutputFile, RefusesWhatCannotBeWrittenByName) {
  const ScratchDirectory scratch;
  const fs::path missing = scratch / "no" / "result";
  EXPECT_THAT(error_of([&] { OutputFile file(missing); }), HasSubstr(missing.string()));
  EXPECT_THAT(error_of([&] { OutputFile file(scratch.path()); }), HasSubstr("is a directory"));
  EXPECT_THAT(error_of([&] {
                OutputFile file("/dev/full");
                file.write(std::string_view("x"));
              }),
              HasSubstr("/dev/full"));
}

TEST(CheckWritable, LeavesNothingBehind) {
  const ScratchDirectory scratch;
  check_writable(scratch / "result");
  EXPECT_THAT(scratch.names(), IsEmpty());
  scratch.write("result", "old");
  check_writable(scratch / "result");
  EXPECT_EQ(read_file(scratch / "result"), "old");
}

}  // namespace
}  // namespace sluice::tools
