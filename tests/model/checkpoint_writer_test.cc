// What synth_writer_test.cc and pack_test.cc, which write whole checkpoints, do not reach.
#include "model/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "stream/scratch.h"

namespace sluice::model {
namespace {

using stream::message_of;
using stream::ScratchDirectory;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CheckpointWriter, TooLittleSpaceSaysHowMuch) {
  EXPECT_NO_THROW(require_space("dir", kGiB, kGiB, ""));
  EXPECT_THAT(message_of<Error>([] { require_space("dir", 3 * kGiB, kGiB, ", or write fewer --layers"); }),
              AllOf(HasSubstr("dir: "), HasSubstr("3.00 GiB"), HasSubstr("1.00 GiB"),
                    HasSubstr("make room, or write fewer --layers")));
}

TEST(CheckpointWriter, MoreThanTheDiskHasIsRefusedBeforeAnythingIsWritten) {
  const ScratchDirectory scratch;
  NewCheckpoint checkpoint;
  checkpoint.shards.push_back({"model.safetensors", {}, {}});
  checkpoint.shards.front().layout.file_bytes = std::uint64_t{1} << 60;
  checkpoint.if_too_large = ", or think again";
  EXPECT_THAT(message_of<Error>([&] {
                write_checkpoint(checkpoint, scratch.path() / "model", 1, [](std::uint64_t, std::uint64_t) {
                  ADD_FAILURE() << "began to write";
                  return false;
                });
              }),
              AllOf(HasSubstr((scratch.path() / "model").string()), HasSubstr("or think again")));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(CheckpointWriter, ACopyThatFailsLeavesNothing) {
  const ScratchDirectory scratch;
  const ScratchDirectory elsewhere;
  NewCheckpoint checkpoint;
  checkpoint.texts = {{"config.json", "{}"}, {"a.txt", "text"}};
  checkpoint.copies = {elsewhere.write("a.txt", "other")};
  EXPECT_THAT(message_of<Error>([&] {
                write_checkpoint(checkpoint, scratch.path() / "model", 1,
                                 [](std::uint64_t, std::uint64_t) { return true; });
              }),
              AllOf(HasSubstr((elsewhere.path() / "a.txt").string()), HasSubstr("cannot be copied")));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

}  // namespace
}  // namespace sluice::model
