// Mapped files give the bytes of the files, some zeros behind them, and one clear line when a file shrinks.
#include "stream/mapped_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "stream/input_file.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::size_t kPage = 4096;

TEST(MappedFiles, GiveTheBytesOfEveryFileAndZerosBehindThem) {
  const ScratchDirectory scratch;
  MappedFiles files;
  // Around whole pages: the slack lies in the last page, on the next, or on both.
  const std::vector<std::size_t> sizes{0, 1, kPage - 1, kPage, kPage + 1, 7 * kPage - 5, 7 * kPage};
  std::vector<std::vector<std::byte>> contents;
  for (const std::size_t size : sizes) {
    contents.push_back(random_bytes(size, size + 1));
    const int index = files.add_file(scratch.write("file" + std::to_string(size), contents.back()));
    EXPECT_EQ(index, static_cast<int>(contents.size()) - 1);
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::byte* data = files.at(static_cast<int>(i), 0, sizes[i]);
    EXPECT_TRUE(std::equal(contents[i].begin(), contents[i].end(), data)) << sizes[i];
    EXPECT_TRUE(std::all_of(data + sizes[i], data + sizes[i] + kMappingSlack, [](std::byte b) {
      return b == std::byte{0};
    })) << sizes[i];
    EXPECT_EQ(files.at(static_cast<int>(i), sizes[i], 0), data + sizes[i]);
  }
}

TEST(MappedFiles, RefuseWhatIsBehindTheEndByName) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("short", random_bytes(100, 1));
  MappedFiles files;
  files.add_file(path);
  EXPECT_EQ(message_of<Error>([&] { files.at(0, 90, 11); }),
            path.string() + ": ends at byte 100, expected 101 or more: changed while it was opened");
  EXPECT_THAT(message_of<Error>([&] { files.at(0, ~std::uint64_t{0}, 2); }), HasSubstr(path.string()));
  EXPECT_THAT(message_of<Error>([&] { files.add_file(scratch.path() / "none"); }), HasSubstr("none: cannot be opened"));
}

TEST(MappedFiles, BeginWithAnEmptyPageCache) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("file", random_bytes(50 * kPage, 1));
  const auto cached_pages = [&] {  // of a file that is mapped only to ask
    const InputFile file = InputFile::open(path);
    void* address = mmap(nullptr, file.bytes(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
    std::vector<unsigned char> resident(50);
    EXPECT_EQ(mincore(address, file.bytes(), resident.data()), 0);
    munmap(address, file.bytes());
    return std::count_if(resident.begin(), resident.end(), [](auto flags) { return flags & 1; });
  };
  const InputFile file = InputFile::open(path);
  fsync(file.descriptor());  // only clean pages can be dropped
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  const auto dropped = cached_pages();  // 0, or all on a file system that lives in memory
  std::vector<std::byte> content(50 * kPage);
  file.read_at(0, content);
  EXPECT_EQ(cached_pages(), 50);
  MappedFiles files;
  files.add_file(path);
  EXPECT_EQ(cached_pages(), dropped);
}

/// Reads a byte that no compiler may leave out.
std::byte touch(const std::byte* address) { return *static_cast<const volatile std::byte*>(address); }

TEST(MappedFilesDeathTest, AFileThatShrinksEndsTheProcessWithItsName) {
  const ScratchDirectory scratch;
  const auto whole = scratch.write("whole", random_bytes(8 * kPage, 1));
  const auto shrinking = scratch.write("shrinking", random_bytes(8 * kPage, 2));
  MappedFiles files;
  files.add_file(whole);
  files.add_file(shrinking);
  EXPECT_EXIT(
      {
        std::filesystem::resize_file(shrinking, kPage);
        touch(files.at(0, 5 * kPage, 1));
        touch(files.at(1, 0, 1));
        touch(files.at(1, 5 * kPage, 1));
        std::exit(0);
      },
      ::testing::ExitedWithCode(1),
      "^sluice: [^\n]*/shrinking: cannot be read where it is mapped [^\n]*truncated while running[^\n]*\n$");
}

TEST(MappedFilesDeathTest, FaultsOfOthersAreNotTheirs) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("other", random_bytes(8 * kPage, 1));
  const auto touch_others = [&] {
    {
      MappedFiles gone;
      gone.add_file(path);
    }
    MappedFiles files;
    files.add_file(scratch.write("ours", "x"));
    const InputFile file = InputFile::open(path);
    void* address = mmap(nullptr, file.bytes(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
    std::filesystem::resize_file(path, 0);
    touch(static_cast<const std::byte*>(address) + kPage);
  };
  EXPECT_DEATH(touch_others(), Not(HasSubstr("sluice: ")));  // by the signal, or by a sanitizer that reports it
}

}  // namespace
}  // namespace sluice::stream
