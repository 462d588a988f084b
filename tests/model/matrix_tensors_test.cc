// Every layout of a matrix is found, and what is wrong with one is named.
#include "model/matrix_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/checkpoint_files.h"

namespace sluice::model {
namespace {

using kernels::Format;
using kernels::Mode;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Zeros of that type and shape.
Tensor zeros(DType dtype, const std::vector<std::int64_t>& shape) {
  std::size_t bytes = size_of(dtype);
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  return {dtype, shape, std::string(bytes, '\0')};
}

class MatrixTensorsTest : public testing::Test {
 protected:
  /// The matrix p of `files`.
  MatrixTensors find(int rows, int cols, int stack = 0, bool bias = false) {
    const TemporaryDirectory directory;
    files.write(directory.path());
    checkpoint.emplace(stream::Checkpoint::open(directory.path()));
    const auto quantization = Quantization::from_config(Config::parse(files.config.dump(), "config.json"));
    return find_matrix(*checkpoint, quantization, {"p", bias}, rows, cols, stack);
  }
  Tensor& operator[](const std::string& name) { return files.tensors[name]; }

  void expect_error(const std::vector<const char*>& parts, int rows, int cols, int stack = 0, bool bias = false) {
    try {
      find(rows, cols, stack, bias);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      for (const char* part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }

  CheckpointFiles files{json::object(), {}};
  std::optional<stream::Checkpoint> checkpoint;
};

const json kAffine = {{"quantization", {{"group_size", 64}, {"bits", 3}}}};
const json kNvfp4 = {{"quantization", {{"mode", "nvfp4"}}}};

TEST_F(MatrixTensorsTest, Affine) {
  files.config = kAffine;
  for (const DType type : {DType::bf16, DType::f16, DType::f32}) {
    files.tensors = {
        {"p.weight", zeros(DType::u32, {6, 12})}, {"p.scales", zeros(type, {6, 2})}, {"p.biases", zeros(type, {6, 2})}};
    const MatrixTensors found = find(6, 128);
    EXPECT_EQ(found.format, (Format{Mode::affine, 3, 64, type}));
    EXPECT_EQ(found.codes->name, "p.weight");
    EXPECT_EQ(found.scales->name, "p.scales");
    EXPECT_EQ(found.biases->name, "p.biases");
    EXPECT_EQ(found.bias, nullptr);
  }
}

TEST_F(MatrixTensorsTest, AffineErrors) {
  files.config = kAffine;
  const auto reset = [&] {
    files.tensors = {{"p.weight", zeros(DType::u32, {6, 12})},
                     {"p.scales", zeros(DType::bf16, {6, 2})},
                     {"p.biases", zeros(DType::bf16, {6, 2})}};
  };
  reset();
  expect_error({"'p.weight'", "[6, 12]", "[7, 12]"}, 7, 128);
  expect_error({"'p.weight'", "96 columns", "64"}, 6, 96);
  (*this)["p.weight"] = zeros(DType::i32, {6, 12});
  expect_error({"model.safetensors", "'p.weight'", "I32", "U32"}, 6, 128);
  reset();
  (*this)["p.scales"] = zeros(DType::u8, {6, 2});
  expect_error({"'p.scales'", "U8", "BF16"}, 6, 128);
  reset();
  (*this)["p.scales"] = zeros(DType::bf16, {6, 4});
  expect_error({"'p.scales'", "[6, 4]", "[6, 2]"}, 6, 128);
  reset();
  (*this)["p.biases"] = zeros(DType::f16, {6, 2});
  expect_error({"'p.biases'", "F16", "BF16 as its scales"}, 6, 128);
  reset();
  files.tensors.erase("p.biases");
  expect_error({"p.biases"}, 6, 128);
}

TEST_F(MatrixTensorsTest, FloatingPointModesAndStacks) {
  files.config = kNvfp4;
  files.tensors = {{"p.weight", zeros(DType::u32, {3, 6, 8})}, {"p.scales", zeros(DType::u8, {3, 6, 4})}};
  EXPECT_EQ(find(6, 64, 3).format, (Format{Mode::nvfp4, 4, 16, DType::u8}));
  expect_error({"'p.weight'", "[3, 6, 8]", "[4, 6, 8]"}, 6, 64, 4);
  expect_error({"'p.weight'", "[3, 6, 8]", "[6, 8]"}, 6, 64);
  (*this)["p.scales"] = zeros(DType::bf16, {3, 6, 4});
  expect_error({"'p.scales'", "BF16", "U8"}, 6, 64, 3);
}

TEST_F(MatrixTensorsTest, Plain) {
  for (const DType type : {DType::bf16, DType::f16, DType::f32}) {
    files.tensors = {{"p.weight", zeros(type, {6, 5})}};
    EXPECT_EQ(find(6, 5).format, kernels::plain_format(type));
    files.tensors = {{"p", zeros(type, {2, 6, 5})}};  // without a suffix
    EXPECT_EQ(find(6, 5, 2).codes->name, "p");
  }
  expect_error({"'p'", "[2, 6, 5]", "[2, 5, 6]"}, 5, 6, 2);
  files.tensors = {{"p.weight", zeros(DType::u32, {6, 5})}};
  expect_error({"'p.weight'", "U32", "F32, F16 or BF16", "not quantized"}, 6, 5);
  files.tensors = {{"p.weight", zeros(DType::f8_e4m3, {6, 5})}};  // FP8 of another kind: one scale for all
  expect_error({"'p.weight'", "F8_E4M3"}, 6, 5);
  files.tensors.clear();
  files.tensors["q"] = zeros(DType::f32, {1});
  expect_error({"p.weight"}, 6, 5);
}

TEST_F(MatrixTensorsTest, Fp8Blocks) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    files.tensors = {{"p.weight", zeros(DType::f8_e4m3, {130, 200})}, {"p.weight_scale_inv", zeros(type, {2, 2})}};
    const MatrixTensors found = find(130, 200);
    EXPECT_EQ(found.format, (Format{Mode::fp8_block, 8, 128, type}));
    EXPECT_EQ(found.scales->name, "p.weight_scale_inv");
  }
  (*this)["p.weight_scale_inv"] = zeros(DType::f32, {1, 2});
  expect_error({"'p.weight_scale_inv'", "[1, 2]", "[2, 2]"}, 130, 200);
  (*this)["p.weight_scale_inv"] = zeros(DType::u8, {2, 2});
  expect_error({"'p.weight_scale_inv'", "U8", "F32, F16 or BF16"}, 130, 200);
  (*this)["p.weight_scale_inv"] = zeros(DType::f32, {2, 2});
  (*this)["p.weight"] = zeros(DType::f8_e5m2, {130, 200});
  expect_error({"'p.weight'", "F8_E5M2", "F8_E4M3"}, 130, 200);
  (*this)["p.weight"] = zeros(DType::f8_e4m3, {130, 201});
  expect_error({"'p.weight'", "[130, 201]", "[130, 200]"}, 130, 200);
}

TEST_F(MatrixTensorsTest, CompressedTensors) {
  files.tensors = {{"p.weight_packed", zeros(DType::i32, {6, 8})},
                   {"p.weight_scale", zeros(DType::bf16, {6, 2})},
                   {"p.weight_shape", zeros(DType::i64, {2})}};
  const MatrixTensors found = find(6, 64);
  EXPECT_EQ(found.format, (Format{Mode::symmetric, 4, 32, DType::bf16}));
  EXPECT_EQ(found.biases, nullptr);
  expect_error({"'p.weight_packed'", "48 columns"}, 6, 48);
  (*this)["p.weight_scale"] = zeros(DType::bf16, {6, 1});
  expect_error({"'p.weight_scale'", "[6, 1]", "[6, 2]"}, 6, 64);
  (*this)["p.weight_scale"] = zeros(DType::u8, {6, 2});
  expect_error({"'p.weight_scale'", "U8"}, 6, 64);
  (*this)["p.weight_scale"] = zeros(DType::bf16, {6, 2});
  (*this)["p.weight_packed"] = zeros(DType::u32, {6, 8});
  expect_error({"'p.weight_packed'", "U32", "I32"}, 6, 64);
  files.tensors.erase("p.weight_scale");
  expect_error({"p.weight_scale"}, 6, 64);
}

TEST_F(MatrixTensorsTest, GptOssBlocks) {
  files.tensors = {{"p_blocks", zeros(DType::u8, {2, 6, 3, 16})}, {"p_scales", zeros(DType::u8, {2, 6, 3})}};
  EXPECT_EQ(find(6, 96, 2).format, (Format{Mode::mxfp4, 4, 32, DType::u8}));
  expect_error({"'p_blocks'", "[2, 6, 3, 16]", "[2, 6, 4, 16]"}, 6, 128, 2);
  (*this)["p_scales"] = zeros(DType::u8, {2, 6, 2});
  expect_error({"'p_scales'", "[2, 6, 2]", "[2, 6, 3]"}, 6, 96, 2);
  (*this)["p_scales"] = zeros(DType::f32, {2, 6, 3});
  expect_error({"'p_scales'", "F32", "U8"}, 6, 96, 2);
}

TEST_F(MatrixTensorsTest, Biases) {
  files.tensors = {{"p.weight", zeros(DType::bf16, {6, 5})}, {"p.bias", zeros(DType::f16, {6})}};
  EXPECT_EQ(find(6, 5, 0, true).bias->name, "p.bias");
  EXPECT_EQ(find(6, 5).bias, nullptr);
  files.tensors = {{"p", zeros(DType::bf16, {2, 6, 5})}, {"p_bias", zeros(DType::bf16, {2, 6})}};
  EXPECT_EQ(find(6, 5, 2, true).bias->name, "p_bias");
  (*this)["p_bias"] = zeros(DType::bf16, {2, 5});
  expect_error({"'p_bias'", "[2, 5]", "[2, 6]"}, 6, 5, 2, true);
  (*this)["p_bias"] = zeros(DType::u8, {2, 6});
  expect_error({"'p_bias'", "U8"}, 6, 5, 2, true);
  files.tensors.erase("p_bias");
  expect_error({"p.bias"}, 6, 5, 2, true);
}

TEST_F(MatrixTensorsTest, AMatrixIsThereInAnyLayout) {
  for (const char* name : {"p.weight", "p.weight_packed", "p_blocks", "p"}) {
    files.tensors = {{name, zeros(DType::u8, {1})}};
    const TemporaryDirectory directory;
    files.write(directory.path());
    const auto opened = stream::Checkpoint::open(directory.path());
    EXPECT_TRUE(has_matrix(opened, "p")) << name;
    EXPECT_FALSE(has_matrix(opened, "p.w")) << name;
  }
}

}  // namespace
}  // namespace sluice::model
