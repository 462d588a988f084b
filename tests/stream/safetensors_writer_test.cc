#include "stream/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/units.h"
#include "scratch.h"
#include "stream/checkpoint.h"
#include "stream/safetensors.h"

namespace sluice::stream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const WriteProgress kGoOn = [](std::uint64_t) { return true; };

/// What byte `offset` of a tensor is in these tests.
std::byte byte_at(std::size_t tensor, std::uint64_t offset) {
  return static_cast<std::byte>((offset * 31 + offset / 257 + tensor * 7) & 0xff);
}

void produce(std::size_t tensor, std::uint64_t offset, std::span<std::byte> bytes) {
  for (std::byte& byte : bytes) byte = byte_at(tensor, offset++);
}

/// Sizes that put borders inside blocks, inside elements and on nothing round; more than two blocks of 8 MiB.
std::vector<TensorHeader> odd_tensors() {
  return {{"b.weight", DType::u32, {3, 700, 1001}},
          {"a.scales", DType::u8, {5}},
          {"empty", DType::f32, {0, 4}},
          {"a.weight", DType::bf16, {2, 2222, 2223}},
          {"scalar", DType::f32, {}}};
}

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(SafetensorsWriter, ReaderFindsEveryTensorWhereItWasPut) {
  const auto tensors = odd_tensors();
  const SafetensorsLayout layout = lay_out(tensors);
  const auto bytes = std::as_bytes(std::span(layout.header));
  ASSERT_EQ(header_length(bytes.first<8>(), layout.file_bytes, "file"), bytes.size() - 8);
  const auto found = parse_header(bytes.subspan(8), layout.file_bytes, "file");
  ASSERT_EQ(found.size(), tensors.size());
  for (const TensorInfo& tensor : found) {
    const auto given =
        std::find_if(tensors.begin(), tensors.end(), [&](const TensorHeader& t) { return t.name == tensor.name; });
    ASSERT_NE(given, tensors.end());
    EXPECT_EQ(tensor.dtype, given->dtype);
    EXPECT_EQ(tensor.shape, given->shape);
    EXPECT_EQ(tensor.bytes, data_bytes(*given));
    EXPECT_EQ(tensor.offset, layout.offsets[static_cast<std::size_t>(given - tensors.begin())]);
  }
}

TEST(SafetensorsWriter, HeaderIsSortedAndNotPadded) {
  const SafetensorsLayout layout = lay_out(odd_tensors());
  const std::string text = layout.header.substr(8);
  EXPECT_EQ(text.back(), '}');
  EXPECT_EQ(text, nlohmann::json::parse(text).dump()) << "sorted, without spaces";
  EXPECT_EQ(nlohmann::json::parse(text)["__metadata__"]["format"], "mlx");
  std::set<std::size_t> remainders;
  for (const char* name : {"x", "xx", "xxx", "xxxx"}) {
    remainders.insert(lay_out(std::vector<TensorHeader>{{name, DType::u8, {1}}}).header.size() % 4);
  }
  EXPECT_EQ(remainders.size(), 4U) << "the data starts wherever the header ends";
}

TEST(SafetensorsWriter, PaddingBehindTheHeaderAlignsTheData) {
  const auto tensors = odd_tensors();
  const std::uint64_t compact = lay_out(tensors).header.size();
  const SafetensorsLayout layout = lay_out(tensors, 4096);
  EXPECT_EQ(layout.header.size(), 4096U);
  EXPECT_EQ(layout.header.substr(8, compact - 8), lay_out(tensors).header.substr(8));
  EXPECT_EQ(layout.header.find_first_not_of(' ', compact), std::string::npos);
  const auto bytes = std::as_bytes(std::span(layout.header));
  ASSERT_EQ(header_length(bytes.first<8>(), layout.file_bytes, "file"), 4088U);
  const auto found = parse_header(bytes.subspan(8), layout.file_bytes, "file");
  EXPECT_EQ(found.front().offset, 4096U);
  EXPECT_EQ(found.size(), tensors.size());
}

TEST(SafetensorsWriter, AProducerThatFailsEndsTheWriting) {
  const ScratchDirectory scratch;
  const auto failing = [](std::size_t tensor, std::uint64_t, std::span<std::byte>) {
    if (tensor == 3) fail("no such bytes");
  };
  EXPECT_EQ(
      message_of<Error>([&] { write_safetensors(scratch.path() / "f", lay_out(odd_tensors()), 3, failing, kGoOn); }),
      "no such bytes");
}

class WriterThreads : public ::testing::TestWithParam<int> {};

TEST_P(WriterThreads, EveryByteIsInItsPlace) {
  const ScratchDirectory scratch;
  const auto tensors = odd_tensors();
  const auto path = scratch.path() / "model.safetensors";
  EXPECT_TRUE(write_safetensors(path, lay_out(tensors), GetParam(), produce, kGoOn));
  const SafetensorsLayout layout = lay_out(tensors);
  const std::string file = content(path);
  ASSERT_EQ(file.size(), layout.file_bytes);
  ASSERT_GT(file.size(), 16 * kMiB);
  EXPECT_EQ(file.substr(0, layout.header.size()), layout.header);
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < data_bytes(tensors[t]); ++i) {
      wrong += static_cast<std::byte>(file[layout.offsets[t] + i]) != byte_at(t, i) ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0U) << tensors[t].name;
  }
}

INSTANTIATE_TEST_SUITE_P(SafetensorsWriter, WriterThreads, ::testing::Values(1, 2, 7));

TEST(SafetensorsWriter, AFileWithoutTensorsIsAFile) {
  const ScratchDirectory scratch;
  EXPECT_TRUE(write_safetensors(scratch.path() / "model.safetensors", lay_out({}), 2, produce, kGoOn));
  EXPECT_TRUE(Checkpoint::open(scratch.path()).tensors().empty());
}

TEST(SafetensorsWriter, ProgressEndsWithTheWholeFile) {
  const ScratchDirectory scratch;
  std::vector<std::uint64_t> seen;
  EXPECT_TRUE(write_safetensors(scratch.path() / "f", lay_out(odd_tensors()), 2, produce, [&](std::uint64_t bytes) {
    seen.push_back(bytes);
    return true;
  }));
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), lay_out(odd_tensors()).file_bytes);
}

TEST(SafetensorsWriter, StopsWhenAsked) {
  const ScratchDirectory scratch;
  EXPECT_FALSE(
      write_safetensors(scratch.path() / "f", lay_out(odd_tensors()), 2, produce, [](std::uint64_t) { return false; }));
}

TEST(SafetensorsWriter, FullDiskNamesTheFileAndWhatItNeeds) {
  const std::string message =
      message_of<Error>([] { write_safetensors("/dev/full", lay_out(odd_tensors()), 3, produce, kGoOn); });
  EXPECT_THAT(message, AllOf(HasSubstr("/dev/full: "), HasSubstr("No space left"), HasSubstr("free some space")));
}

TEST(SafetensorsWriter, MissingDirectoryNamesTheFile) {
  EXPECT_THAT(message_of<Error>([] { write_safetensors("/nowhere/f", lay_out(odd_tensors()), 1, produce, kGoOn); }),
              HasSubstr("/nowhere/f: cannot be written"));
}

}  // namespace
}  // namespace sluice::stream
