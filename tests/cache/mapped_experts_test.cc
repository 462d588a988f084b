// Mapped experts are handed out as a cache would hand out residents: the same bytes, in the order asked for.
#include "cache/mapped_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "cache/expert_file.h"

namespace sluice::cache {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MappedExperts, HoldTheBytesOfEveryExpert) {
  const ExpertFile file({{8, {100'001, 3000, 4096}}, {3, {77}}});
  stream::MappedFiles files;
  files.add_file(file.write());
  MappedExperts experts(file.layers(), files);
  EXPECT_THAT(ids_of(experts.find(0, std::vector{2, 7, 0})), ElementsAre(2, 7, 0));
  for (int layer = 0; layer < 2; ++layer) {
    std::vector<int> all(static_cast<std::size_t>(file.layers()[static_cast<std::size_t>(layer)].experts));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    const auto found = experts.find(layer, all);
    EXPECT_EQ(ids_of(found), all);
    for (const ReadyExpert& ready : found) {
      EXPECT_TRUE(ready.hit);
      EXPECT_TRUE(file.holds(layer, ready)) << layer << ", expert " << ready.id;
    }
  }
  EXPECT_TRUE(experts.find(0, {}).empty());
}

TEST(MappedExperts, PartsMayBeReadBehindTheirEnd) {
  const ExpertFile file({{8, {100'001, 3000, 4096}}});
  stream::MappedFiles files;
  files.add_file(file.write());
  MappedExperts experts(file.layers(), files);
  const Slice& last = file.layers()[0].slice(7, 2);  // the file ends with it
  const std::byte* end = experts.find(0, std::vector{7})[0].parts[2] + last.bytes;
  EXPECT_EQ(std::count(end, end + 4096, std::byte{0}), 4096);
}

TEST(MappedExperts, RefuseAFileThatIsShorterThanItsHeaderSaid) {
  const ExpertFile file({{2, {1000, 77}}});
  const auto path = file.write();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  stream::MappedFiles files;
  files.add_file(path);
  EXPECT_THAT(stream::message_of<Error>([&] { MappedExperts(file.layers(), files); }),
              HasSubstr(path.string() + ": ends at byte"));
}

}  // namespace
}  // namespace sluice::cache
