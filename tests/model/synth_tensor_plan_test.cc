// What a planned matrix holds once it is read back: centred on zero, of the size that was asked for.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/float16.h"
#include "model/synth/tensor_plan.h"

namespace sluice::model::synth {
namespace {

using nlohmann::json;

constexpr std::int64_t kRows = 40;
constexpr std::int64_t kCols = 1536;

std::vector<std::byte> bytes_of(const PlannedTensor& tensor) {
  std::vector<std::byte> bytes(stream::data_bytes(tensor.header));
  fill_bytes(tensor.fill, tensor.header.dtype, random_stream(tensor.random_name, 3), 0, bytes);
  return bytes;
}

double bf16_at(const std::vector<std::byte>& bytes, std::size_t index) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes.data() + 2 * index, 2);
  return bf16_to_f32(bits);
}

double e4m3(unsigned code) {
  const double magnitude = (code & 0x78U) == 0 ? std::ldexp(code & 7U, -9)
                                               : std::ldexp(8 + (code & 7U), static_cast<int>((code >> 3) & 15U) - 10);
  return (code & 0x80U) != 0 ? -magnitude : magnitude;
}

double e2m1(unsigned code) {
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8U) != 0 ? -kMagnitudes[code & 7U] : kMagnitudes[code & 7U];
}

/// The weights of a planned module, read element by element as the format says.
std::vector<double> weights(const std::vector<PlannedTensor>& tensors, const std::string& mode, int bits, int group) {
  const std::vector<std::byte> codes = bytes_of(tensors.at(0));
  const std::vector<std::byte> scales = bytes_of(tensors.at(1));
  const std::vector<std::byte> biases = mode == "affine" ? bytes_of(tensors.at(2)) : std::vector<std::byte>{};
  std::vector<double> values;
  for (std::size_t i = 0; i < kRows * kCols; ++i) {
    unsigned code = 0;
    for (int b = 0; b < bits; ++b) {
      const std::size_t bit = i * static_cast<std::size_t>(bits) + static_cast<std::size_t>(b);
      code |= (std::to_integer<unsigned>(codes[bit / 8]) >> (bit % 8) & 1U) << b;
    }
    const std::size_t g = i / static_cast<std::size_t>(group);
    if (mode == "affine") {
      values.push_back(bf16_at(scales, g) * code + bf16_at(biases, g));
      continue;
    }
    const auto scale = std::to_integer<unsigned>(scales[g]);
    values.push_back((bits == 8 ? e4m3(code) : e2m1(code)) *
                     (mode == "nvfp4" ? e4m3(scale) : std::ldexp(1.0, static_cast<int>(scale) - 127)));
  }
  return values;
}

struct Mode {
  std::string name;
  int bits, group;
};

class SynthMatrix : public ::testing::TestWithParam<Mode> {};

TEST_P(SynthMatrix, IsCentredAndOfTheSizeAskedFor) {
  const auto& [mode, bits, group] = GetParam();
  const json config = {{"quantization", {{"mode", mode}, {"bits", bits}, {"group_size", group}}}};
  for (const double gain : {1.0, 3.0}) {
    TensorPlan plan(config, DType::bf16);
    plan.matrix("module", {kRows, kCols}, gain);
    const std::vector<double> values = weights(plan.take(), mode, bits, group);
    double sum = 0, squares = 0;
    for (const double value : values) {
      sum += value;
      squares += value * value;
    }
    const auto count = static_cast<double>(values.size());
    const double deviation = std::sqrt(squares / count);
    EXPECT_NEAR(deviation * std::sqrt(kCols) / gain, 1, 0.03);
    EXPECT_LT(std::abs(sum / count) / deviation, 6 / std::sqrt(count));
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, SynthMatrix,
                         ::testing::Values(Mode{"affine", 2, 64}, Mode{"affine", 3, 32}, Mode{"affine", 4, 64},
                                           Mode{"affine", 5, 32}, Mode{"affine", 6, 128}, Mode{"affine", 8, 64},
                                           Mode{"mxfp4", 4, 32}, Mode{"nvfp4", 4, 16}, Mode{"mxfp8", 8, 32}),
                         [](const auto& test) { return test.param.name + std::to_string(test.param.bits); });

TEST(TensorPlan, SmallestNvfp4ScalesAreNotZero) {
  TensorPlan plan({{"quantization", {{"mode", "nvfp4"}, {"bits", 4}, {"group_size", 16}}}}, DType::bf16);
  plan.matrix("module", {kRows, kCols}, 1e-6);
  const std::vector<PlannedTensor> tensors = plan.take();
  for (const std::byte scale : bytes_of(tensors.at(1))) ASSERT_EQ(scale, std::byte{1});
}

TEST(TensorPlan, FalseInTheConfigLeavesAModulePlain) {
  TensorPlan plan({{"quantization", {{"bits", 4}, {"group_size", 64}, {"plain", false}}}}, DType::f16);
  plan.matrix("plain", {kRows, kCols});
  plan.matrix("module", {kRows, kCols, 2});
  const std::vector<PlannedTensor> tensors = plan.take();
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(tensors[0].header.dtype, DType::f16);
  EXPECT_EQ(tensors[0].header.shape, (std::vector<std::int64_t>{kRows, kCols}));
  EXPECT_EQ(tensors[1].header.shape, (std::vector<std::int64_t>{2, kRows, kCols / 8}));
  EXPECT_EQ(tensors[2].header.dtype, DType::f16);
}

}  // namespace
}  // namespace sluice::model::synth
