// Where experts lie: stacked, one by one, gate and up in one matrix by halves or by turns; their slices and views.
#include "model/expert_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/loading.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int kExperts = 3;
constexpr int kWidth = 4;
constexpr int kHidden = 6;

/// Element (e, row, col) of projection `which`: small whole numbers that name themselves.
float element(int which, int e, int row, int col) {
  return static_cast<float>(which * 1000 + e * 100 + row * 10 + col) / 4;
}

std::vector<float> matrix(int which, int e, int rows, int cols) {
  std::vector<float> values;
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < cols; ++c) values.push_back(element(which, e, r, c));
  }
  return values;
}

Tensor stack(int which, int rows, int cols) {
  std::vector<float> all;
  for (int e = 0; e < kExperts; ++e) {
    const auto one = matrix(which, e, rows, cols);
    all.insert(all.end(), one.begin(), one.end());
  }
  return f32_tensor({kExperts, rows, cols}, all);
}

MoeSpec moe() {
  MoeSpec spec;
  spec.experts = kExperts;
  spec.top_k = 2;
  spec.width = kWidth;
  spec.names = {{"s.gate", "s.up", "s.down", "", GateUpRows::halves},
                {"e.{}.w1", "e.{}.w3", "e.{}.w2", "", GateUpRows::halves},
                {"", "", "f.down", "f.gate_up", GateUpRows::halves},
                {"", "", "t.down", "t.gate_up", GateUpRows::alternating}};
  return spec;
}

struct Found {
  explicit Found(const CheckpointFiles& files, const MoeSpec& spec = moe()) : loading(files) {
    layout = find_experts(*loading.checkpoint, loading.quantization, spec, kHidden);
  }

  /// Expert e, read slice by slice.
  std::vector<std::vector<float>> expert(int e) const {
    const auto& file = loading.checkpoint->files()[0].path;
    std::vector<std::string> parts;
    std::vector<const std::byte*> pointers;
    for (int part = 0; part < layout.records.parts; ++part) {
      const cache::Slice& slice = layout.records.slice(e, part);
      std::ifstream stream(file, std::ios::binary);
      stream.seekg(static_cast<std::streamoff>(slice.offset));
      std::string& bytes = parts.emplace_back(slice.bytes + 64, '\0');
      stream.read(bytes.data(), static_cast<std::streamsize>(slice.bytes));
    }
    for (const std::string& part : parts) pointers.push_back(reinterpret_cast<const std::byte*>(part.data()));
    const kernels::ExpertViews views = layout.views(pointers);
    std::vector<std::vector<float>> result;
    for (const auto* view : {&views.gate, &views.up, &views.down}) result.push_back(floats_of(*view));
    return result;
  }

  Loading loading;
  ExpertLayout layout;
};

void expect_experts(const Found& found) {
  for (int e = 0; e < kExperts; ++e) {
    const auto views = found.expert(e);
    EXPECT_EQ(views[0], matrix(0, e, kWidth, kHidden)) << e;
    EXPECT_EQ(views[1], matrix(1, e, kWidth, kHidden)) << e;
    EXPECT_EQ(views[2], matrix(2, e, kHidden, kWidth)) << e;
  }
  EXPECT_EQ(found.layout.expert_bytes(), 3U * kWidth * kHidden * 4);
}

TEST(ExpertLayout, Stacked) {
  CheckpointFiles files{json::object(), {}};
  files.tensors = {{"s.gate.weight", stack(0, kWidth, kHidden)},
                   {"s.up.weight", stack(1, kWidth, kHidden)},
                   {"s.down.weight", stack(2, kHidden, kWidth)}};
  const Found found(files);
  EXPECT_EQ(found.layout.records.parts, 3);
  expect_experts(found);
}

TEST(ExpertLayout, OneByOne) {
  CheckpointFiles files{json::object(), {}};
  for (int e = 0; e < kExperts; ++e) {
    const std::string path = "e." + std::to_string(e);
    files.tensors[path + ".w1.weight"] = f32_tensor({kWidth, kHidden}, matrix(0, e, kWidth, kHidden));
    files.tensors[path + ".w3.weight"] = f32_tensor({kWidth, kHidden}, matrix(1, e, kWidth, kHidden));
    files.tensors[path + ".w2.weight"] = f32_tensor({kHidden, kWidth}, matrix(2, e, kHidden, kWidth));
  }
  expect_experts(Found(files));
  files.tensors.erase("e.2.w3.weight");
  EXPECT_THAT([&] { Found found(files); }, ThrowsMessage<Error>(HasSubstr("e.2.w3.weight")));
}

/// Gate and up in one matrix are one part: one read.
TEST(ExpertLayout, HalvesAndAlternatingRows) {
  for (const bool alternating : {false, true}) {
    std::vector<float> both;
    for (int e = 0; e < kExperts; ++e) {
      for (int row = 0; row < 2 * kWidth; ++row) {
        const int which = alternating ? row % 2 : row / kWidth;
        for (int c = 0; c < kHidden; ++c) both.push_back(element(which, e, alternating ? row / 2 : row % kWidth, c));
      }
    }
    const std::string module = alternating ? "t" : "f";
    CheckpointFiles files{json::object(), {}};
    files.tensors = {{module + ".gate_up", f32_tensor({kExperts, 2 * kWidth, kHidden}, both)},
                     {module + ".down", stack(2, kHidden, kWidth)}};
    const Found found(files);
    EXPECT_EQ(found.layout.records.parts, 2);
    expect_experts(found);
  }
}

TEST(ExpertLayout, BiasesFollowTheirRows) {
  MoeSpec spec = moe();
  spec.bias = true;
  CheckpointFiles files{json::object(), {}};
  std::vector<float> bias;
  for (int i = 0; i < kExperts * 2 * kWidth; ++i) bias.push_back(static_cast<float>(i));
  files.tensors = {{"t.gate_up", f32_tensor({kExperts, 2 * kWidth, kHidden},
                                            std::vector<float>(std::size_t{kExperts} * 2 * kWidth * kHidden))},
                   {"t.gate_up_bias", f32_tensor({kExperts, 2 * kWidth}, bias)},
                   {"t.down", stack(2, kHidden, kWidth)},
                   {"t.down_bias", f32_tensor({kExperts, kHidden}, std::vector<float>(kExperts * kHidden, 7))}};
  const Found found(files, spec);
  EXPECT_EQ(found.layout.records.parts, 4);
  std::vector<std::vector<std::byte>> memory;
  std::vector<const std::byte*> parts;
  for (int part = 0; part < 4; ++part) {
    const cache::Slice& slice = found.layout.records.slice(1, part);
    std::ifstream stream(found.loading.checkpoint->files()[0].path, std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(slice.offset));
    memory.emplace_back(slice.bytes + 64);
    stream.read(reinterpret_cast<char*>(memory.back().data()), static_cast<std::streamsize>(slice.bytes));
  }
  for (const auto& part : memory) parts.push_back(part.data());
  const kernels::ExpertViews views = found.layout.views(parts);
  for (int row = 0; row < kWidth; ++row) {
    float gate, up;
    std::memcpy(&gate, views.gate.bias + row * views.gate.bias_stride, 4);
    std::memcpy(&up, views.up.bias + row * views.up.bias_stride, 4);
    EXPECT_EQ(gate, 8 + 2 * row);
    EXPECT_EQ(up, 9 + 2 * row);
  }
}

TEST(ExpertLayout, WithoutAGateThereIsNone) {
  MoeSpec spec = moe();
  spec.activation = kernels::Activation::relu2;
  spec.names = {{"", "s.up", "s.down", "", GateUpRows::halves}};
  CheckpointFiles files{json::object(), {}};
  files.tensors = {{"s.up.weight", stack(1, kWidth, kHidden)}, {"s.down.weight", stack(2, kHidden, kWidth)}};
  const Found found(files, spec);
  EXPECT_EQ(found.layout.records.parts, 2);
  EXPECT_EQ(found.layout.gate.rows, 0);
  EXPECT_EQ(found.expert(2)[1], matrix(1, 2, kWidth, kHidden));
}

/// The config knows experts by their stacked path, even where they are stored one by one.
TEST(ExpertLayout, OneByOneTakesTheFormatOfTheStack) {
  MoeSpec spec = moe();
  spec.width = 64;
  CheckpointFiles files{{{"quantization",
                          {{"group_size", 64},
                           {"bits", 4},
                           {"s.up", {{"group_size", 32}, {"bits", 8}}},
                           {"s.gate", {{"group_size", 32}, {"bits", 8}}}}}},
                        {}};
  const auto add = [&](const std::string& path, int rows, int cols, int bits, int group) {
    const auto codes = static_cast<std::size_t>(rows * cols * bits / 8);
    files.tensors[path + ".weight"] = {DType::u32, {rows, cols * bits / 32}, std::string(codes, '\0')};
    const std::vector<float> zeros(static_cast<std::size_t>(rows * cols / group));
    files.tensors[path + ".scales"] = files.tensors[path + ".biases"] = bf16_tensor({rows, cols / group}, zeros);
  };
  for (int e = 0; e < kExperts; ++e) {
    const std::string path = "e." + std::to_string(e);
    add(path + ".w1", 64, 128, 8, 32);
    add(path + ".w3", 64, 128, 8, 32);
    add(path + ".w2", 128, 64, 4, 64);
  }
  const Loading loading(files);
  const ExpertLayout layout = find_experts(*loading.checkpoint, loading.quantization, spec, 128);
  EXPECT_EQ(layout.up.format.bits, 8);
  EXPECT_EQ(layout.down.format.bits, 4);
}

/// A stack without numbered names of its own gets some, and keeps its formats.
TEST(ExpertLayout, AnyStackMayLieOneByOne) {
  MoeSpec spec = moe();
  spec.names = {{"m.up", "m.gate", "m.down", "", GateUpRows::halves}, spec.names.back()};
  CheckpointFiles files{{{"quantization", {{"group_size", 64}, {"bits", 4}, {"t.gate_up", false}}}}, {}};
  for (int e = 0; e < kExperts; ++e) {
    const std::string path = "t." + std::to_string(e);
    std::vector<float> both;
    for (int row = 0; row < 2 * kWidth; ++row) {
      for (int c = 0; c < kHidden; ++c) both.push_back(element(row % 2, e, row / 2, c));
    }
    files.tensors[path + ".gate_up"] = f32_tensor({2 * kWidth, kHidden}, both);
    files.tensors[path + ".down"] = f32_tensor({kHidden, kWidth}, matrix(2, e, kHidden, kWidth));
  }
  const Found found(files, spec);
  expect_experts(found);
  ASSERT_EQ(found.layout.part_tensors.size(), 2U);
  EXPECT_EQ(found.layout.part_tensors[0].name_of(2), "t.2.gate_up");
  EXPECT_EQ(found.layout.part_tensors[1].name_of(10), "t.10.down");
}

TEST(ExpertLayout, PartsAreNamedAsTheyWouldBeOneByOne) {
  CheckpointFiles files{json::object(), {}};
  files.tensors = {{"s.gate.weight", stack(0, kWidth, kHidden)},
                   {"s.up.weight", stack(1, kWidth, kHidden)},
                   {"s.down.weight", stack(2, kHidden, kWidth)}};
  const Found known(files);
  ASSERT_EQ(known.layout.part_tensors.size(), 3U);
  EXPECT_EQ(known.layout.part_tensors[1].name_of(2), "e.2.w3.weight");
  EXPECT_EQ(known.layout.part_tensors[2].shape, (std::vector<std::int64_t>{kHidden, kWidth}));
  MoeSpec spec = moe();
  spec.names.erase(spec.names.begin() + 1);
  EXPECT_EQ(Found(files, spec).layout.part_tensors[1].name_of(2), "s.2.up.weight");
}

TEST(ExpertLayout, ErrorsNameWhatIsWrong) {
  CheckpointFiles files{json::object(), {}};
  files.tensors["other"] = f32_tensor({1}, {1});
  EXPECT_THAT([&] { Found found(files); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'s.up.weight'"), HasSubstr("any other layout"))));
  files.tensors = {
      {"s.gate.weight", bf16_tensor({kExperts, kWidth, kHidden}, matrix(0, 0, kExperts * kWidth, kHidden))},
      {"s.up.weight", stack(1, kWidth, kHidden)},
      {"s.down.weight", stack(2, kHidden, kWidth)}};
  EXPECT_THAT([&] { Found found(files); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'s.gate' and 's.up'"), HasSubstr("different formats"))));
  files.tensors["s.gate.weight"] = stack(0, kWidth, kHidden);
  files.tensors["s.down.weight"] = stack(2, kWidth, kHidden);
  EXPECT_THAT([&] { Found found(files); }, ThrowsMessage<Error>(AllOf(HasSubstr("'s.down.weight'"),
                                                                      HasSubstr("[3, 4, 6]"), HasSubstr("[3, 6, 4]"))));
}

}  // namespace
}  // namespace sluice::model
