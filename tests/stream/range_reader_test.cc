#include "stream/range_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/units.h"
#include "scratch.h"

namespace sluice::stream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Two files whose sizes are multiples of nothing, the first of more than two pieces.
struct Files {
  Files() {
    for (std::size_t i = 0; i < content.size(); ++i) {
      files.push_back({scratch.write("f" + std::to_string(i), content[i]), content[i].size()});
    }
  }
  ScratchDirectory scratch;
  std::vector<std::vector<std::byte>> content{random_bytes(2 * kMiB + 12345, 1), random_bytes(777, 2)};
  std::vector<FileInfo> files;
};

TEST(RangeReader, BringsAnyRange) {
  const Files all;
  const RangeReader reader(all.files);
  const std::uint64_t end = all.content[0].size();
  const std::pair<std::uint64_t, std::uint64_t> ranges[] = {{0, 1},       {0, end},         {1, end - 1}, {4095, 2},
                                                            {4096, 4096}, {kMiB - 1, kMiB}, {end - 1, 1}, {end, 0}};
  for (const auto& [offset, bytes] : ranges) {
    std::vector<std::byte> found(bytes);
    reader.read(0, offset, found);
    EXPECT_TRUE(std::equal(found.begin(), found.end(), all.content[0].begin() + static_cast<std::ptrdiff_t>(offset)))
        << offset << " " << bytes;
  }
  std::vector<std::byte> small(777);
  reader.read(1, 0, small);
  EXPECT_EQ(small, all.content[1]);
}

TEST(RangeReader, ServesManyThreads) {
  const Files all;
  const RangeReader reader(all.files);
  std::vector<std::byte> found(all.content[0].size());
  {
    std::vector<std::jthread> threads;
    const std::size_t share = found.size() / 5 + 1;
    for (std::size_t begin = 0; begin < found.size(); begin += share) {
      threads.emplace_back([&, begin] {
        reader.read(0, begin, std::span(found).subspan(begin, std::min(share, found.size() - begin)));
      });
    }
  }
  EXPECT_EQ(found, all.content[0]);
}

TEST(RangeReader, NamesAFileThatBecameShorter) {
  const Files all;
  const RangeReader reader(all.files);
  std::filesystem::resize_file(all.files[0].path, 5000);
  std::vector<std::byte> found(100);
  EXPECT_THAT(message_of<Error>([&] { reader.read(0, 4950, found); }),
              AllOf(HasSubstr(all.files[0].path.string()), HasSubstr("ends at byte 5000"), HasSubstr("expected 5050")));
  EXPECT_THAT(message_of<Error>([&] { reader.read(0, kMiB, found); }), HasSubstr(all.files[0].path.string()));
}

}  // namespace
}  // namespace sluice::stream
