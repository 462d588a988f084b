#include "stream/checkpoint.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "stream/checkpoint_index.h"
#include "stream/scratch.h"

namespace sluice::stream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A file with two tensors of 8 bytes each.
std::string shard(const std::string& first, const std::string& second) {
  return safetensors_file(fmt::format(R"({{"{}":{{"dtype":"U8","shape":[8],"data_offsets":[0,8]}},)"
                                      R"("{}":{{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}}})",
                                      first, second),
                          16);
}

std::string error_of_opening(const std::filesystem::path& directory) {
  const std::string message = message_of<Error>([&] { Checkpoint::open(directory); });
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  return message;
}

TEST(Checkpoint, OpensASingleFile) {
  const ScratchDirectory scratch;
  const auto path = scratch.write("model.safetensors", shard("a", "b"));
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  EXPECT_EQ(checkpoint.directory(), scratch.path());
  ASSERT_EQ(checkpoint.files().size(), 1u);
  EXPECT_EQ(checkpoint.files()[0].path, path);
  EXPECT_EQ(checkpoint.files()[0].bytes, std::filesystem::file_size(path));
  ASSERT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.tensor_bytes(), 16u);
  EXPECT_EQ(checkpoint.get("b").dtype, DType::f32);
  EXPECT_THAT(checkpoint.get("b").shape, ElementsAre(2, 1));
  EXPECT_EQ(checkpoint.get("b").offset + checkpoint.get("b").bytes, checkpoint.files()[0].bytes);
  EXPECT_EQ(checkpoint.find("c"), nullptr);
}

TEST(Checkpoint, NamesTheTensorThatIsMissing) {
  const ScratchDirectory scratch;
  scratch.write("model.safetensors", shard("a", "b"));
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  EXPECT_EQ(message_of<Error>([&] { checkpoint.get("c"); }), scratch.path().string() + ": tensor 'c' is missing");
}

TEST(Checkpoint, OpensEveryModelFileInOrderOfNameAndNoOther) {
  const ScratchDirectory scratch;
  scratch.write("model-00002-of-00002.safetensors", shard("c", "d"));
  scratch.write("model-00001-of-00002.safetensors", shard("a", "b"));
  scratch.write("adapters.safetensors", "not opened");
  scratch.write("model.safetensors.bak", "not opened");
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  ASSERT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.files()[0].path.filename(), "model-00001-of-00002.safetensors");
  EXPECT_EQ(checkpoint.get("a").file, 0);
  EXPECT_EQ(checkpoint.get("d").file, 1);
}

TEST(Checkpoint, OpensOnlyTheFilesOfTheIndex) {
  const ScratchDirectory scratch;
  scratch.write("weights.safetensors", shard("a", "b"));
  scratch.write("model-stale.safetensors", "not opened");
  scratch.write("model.safetensors.index.json",
                R"({"metadata":{"total_size":16,"deep":[[1]]},"weight_map":{"a":"weights.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  ASSERT_EQ(checkpoint.files().size(), 1u);
  EXPECT_NE(checkpoint.find("a"), nullptr);
  EXPECT_NE(checkpoint.find("b"), nullptr) << "a tensor that the index does not name is accepted";
}

TEST(Checkpoint, StaysValidWhenMoved) {
  const ScratchDirectory scratch;
  scratch.write("model.safetensors", shard("a", "b"));
  Checkpoint first = Checkpoint::open(scratch.path());
  const Checkpoint second = std::move(first);
  EXPECT_EQ(&second.get("a"), &second.tensors()[0]);
}

TEST(Checkpoint, HoldsHundredsOfShards) {
  const ScratchDirectory scratch;
  constexpr int kShards = 200;
  for (int i = 0; i < kShards; ++i) {
    const int number = 1000 + i;
    scratch.write(fmt::format("model-{}.safetensors", number),
                  shard(fmt::format("a{}", number), fmt::format("b{}", number)));
  }
  const Checkpoint checkpoint = Checkpoint::open(scratch.path());
  ASSERT_EQ(checkpoint.files().size(), static_cast<std::size_t>(kShards));
  for (int i = 0; i < kShards; ++i) EXPECT_EQ(checkpoint.get(fmt::format("b{}", 1000 + i)).file, i);
}

TEST(CheckpointRefuses, WhatIsNoDirectory) {
  const ScratchDirectory scratch;
  const auto missing = scratch.path() / "missing";
  EXPECT_EQ(error_of_opening(missing), missing.string() + ": no such directory");
  const auto file = scratch.write("file", "x");
  EXPECT_THAT(error_of_opening(file), HasSubstr(file.string() + ": is not a directory"));
}

TEST(CheckpointRefuses, AnEmptyDirectory) {
  const ScratchDirectory scratch;
  EXPECT_THAT(error_of_opening(scratch.path()), HasSubstr("no model*.safetensors"));
}

TEST(CheckpointRefuses, AMissingShardAndSaysHowManyAreThere) {
  const ScratchDirectory scratch;
  scratch.write("one.safetensors", shard("a", "b"));
  scratch.write("model.safetensors.index.json",
                R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"}})");
  EXPECT_THAT(error_of_opening(scratch.path()),
              HasSubstr("index.json: names 'two.safetensors', which is missing (1 of 2 files are there)"));
}

TEST(CheckpointRefuses, AnIndexThatLies) {
  const ScratchDirectory scratch;
  scratch.write("one.safetensors", shard("a", "b"));
  scratch.write("two.safetensors", shard("c", "d"));
  scratch.write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors","x":"two.safetensors"}})");
  EXPECT_THAT(error_of_opening(scratch.path()),
              HasSubstr("says that tensor 'x' is in 'two.safetensors', which does not hold it"));
  scratch.write("model.safetensors.index.json", R"({"weight_map":{"a":"two.safetensors","b":"one.safetensors"}})");
  EXPECT_THAT(error_of_opening(scratch.path()),
              HasSubstr("says that tensor 'a' is in 'two.safetensors', but it is in 'one.safetensors'"));
}

TEST(CheckpointRefuses, ATensorInTwoShards) {
  const ScratchDirectory scratch;
  scratch.write("model-1.safetensors", shard("a", "b"));
  scratch.write("model-2.safetensors", shard("c", "a"));
  EXPECT_THAT(error_of_opening(scratch.path()),
              HasSubstr("tensor 'a' is in both 'model-1.safetensors' and 'model-2.safetensors'"));
}

TEST(CheckpointRefuses, ATruncatedShardAtWhateverByte) {
  const ScratchDirectory scratch;
  const std::string whole = shard("a", "b");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    scratch.write("model.safetensors", std::string_view(whole).substr(0, bytes));
    EXPECT_THAT(error_of_opening(scratch.path()), HasSubstr("model.safetensors: ")) << bytes;
  }
  EXPECT_THAT(error_of_opening(scratch.path()),
              HasSubstr("tensor 'b' ends at byte 16 of the data, but the file holds only 15"));
}

TEST(CheckpointRefuses, TheFirstBrokenShardInOrder) {
  const ScratchDirectory scratch;
  for (const char* name : {"model-1.safetensors", "model-2.safetensors", "model-3.safetensors"}) {
    scratch.write(name, shard(fmt::format("{} a", name), fmt::format("{} b", name)));
  }
  scratch.write("model-2.safetensors", "short");
  scratch.write("model-3.safetensors", "shorter");
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(error_of_opening(scratch.path()), HasSubstr("model-2.safetensors: has 5 bytes, too few"));
  }
}

TEST(CheckpointRefuses, WhatIsNoRegularFile) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "model.safetensors";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(error_of_opening(scratch.path()), path.string() + ": is not a regular file");
}

std::vector<IndexEntry> parse(std::string_view text) { return parse_index(std::as_bytes(std::span(text)), "index"); }

TEST(ParseIndex, GivesEntriesInOrderOfTensor) {
  const auto entries = parse(R"({"weight_map":{"b":"2","a":"1"},"metadata":{"weight_map":{"x":1}},"more":[{}]})");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].tensor, "a");
  EXPECT_EQ(entries[0].file, "1");
  EXPECT_EQ(entries[1].tensor, "b");
  EXPECT_EQ(entries[1].file, "2");
}

TEST(ParseIndex, RefusesByName) {
  using namespace std::string_literals;
  const std::pair<std::string, std::string> cases[] = {
      {"", "index: is not valid JSON at byte"},
      {"[]", "index: is not a JSON object"},
      {"1", "index: is not a JSON object"},
      {"{", "index: is not valid JSON at byte"},
      {"{} {}", "index: is not valid JSON at byte"},
      {"{}\0garbage"s, "index: holds a zero byte"},
      {"{}", "index: has no \"weight_map\""},
      {R"({"weight_map":[]})", "\"weight_map\" is not an object"},
      {R"({"weight_map":"x"})", "\"weight_map\" is not an object"},
      {R"({"weight_map":{},"weight_map":{}})", "has \"weight_map\" twice"},
      {R"({"weight_map":{"a":1}})", "tensor 'a' is not mapped to a file name"},
      {R"({"weight_map":{"a":{}}})", "tensor 'a' is not mapped to a file name"},
      {R"({"weight_map":{"a":["f"]}})", "tensor 'a' is not mapped to a file name"},
      {R"({"weight_map":{"a":"f","a":"g"}})", "names tensor 'a' twice"},
      {R"({"weight_map":{"a":""}})", "'', which is not a file name in this directory"},
      {R"({"weight_map":{"a":".."}})", "'..', which is not a file name in this directory"},
      {R"({"weight_map":{"a":"../x"}})", "'../x', which is not a file name in this directory"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "'/etc/passwd', which is not a file name in this directory"},
      {R"({"weight_map":{"a":"f\u0000g"}})", "'f\\x00g', which is not a file name in this directory"},
      {R"({"weight_map":{"a\u001b":1}})", "tensor 'a\\x1b' is not mapped"},
      {R"({"x":)" + std::string(1'000'000, '['), "index: is nested too deeply"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(message_of<Error>([&, &content = text] { parse(content); }), HasSubstr(expected));
  }
}

}  // namespace
}  // namespace sluice::stream
