// Weights on their way into memory: as stored, or turned, shifted, repeated and converted.
#include "model/dense_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/loading.h"

namespace sluice::model {
namespace {

using kernels::MatrixView;
using kernels::Mode;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<float> copy_of(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST(DenseLoader, VectorsAreShiftedScaledAndRepeated) {
  CheckpointFiles files{json::object(), {}};
  files.tensors["half"] = bf16_tensor({4}, {0.5F, -1.0F, 2.0F, 0.0078125F});
  files.tensors["full"] = f32_tensor({1, 2, 1}, {1.5F, 3.0F});  // the shape does not matter, the number does
  Loading loading(files);
  std::span<const float> plain, plus, times, both, repeated;
  loading.loader->vector({"half"}, 4, plain);
  loading.loader->vector({"half", 1}, 4, plus);
  loading.loader->vector({"half", 0, 0.25F}, 4, times);
  loading.loader->vector({"half", 1, 2}, 4, both);
  loading.loader->vector({"full"}, 2, repeated, 3);
  loading.load();
  EXPECT_EQ(copy_of(plain), (std::vector<float>{0.5F, -1, 2, 0.0078125F}));
  EXPECT_EQ(copy_of(plus), (std::vector<float>{1.5F, 0, 3, 1.0078125F}));
  EXPECT_EQ(copy_of(times), (std::vector<float>{0.125F, -0.25F, 0.5F, 0.001953125F}));
  EXPECT_EQ(copy_of(both), (std::vector<float>{3, 0, 6, 2.015625F}));
  EXPECT_EQ(copy_of(repeated), (std::vector<float>{1.5F, 1.5F, 1.5F, 3, 3, 3}));
}

/// Where files store norms less one, the reference adds in the type of the tensor.
TEST(DenseLoader, ASumIsRoundedAsItIsStored) {
  CheckpointFiles files{json::object(), {}};
  files.tensors["a"] = bf16_tensor({1}, {0.001953125F});  // 1 + 2^-9 is between two bf16 numbers
  files.tensors["b"] = f32_tensor({1}, {0.001953125F});
  Loading loading(files);
  std::span<const float> rounded, exact;
  loading.loader->vector({"a", 1}, 1, rounded);
  loading.loader->vector({"b", 1}, 1, exact);
  loading.load();
  EXPECT_EQ(rounded[0], 1);
  EXPECT_EQ(exact[0], 1.001953125F);
}

TEST(DenseLoader, ConvolutionsAreTurnedToTaps) {
  CheckpointFiles files{json::object(), {}};
  // Two tensors of two channels with three taps, in both of the shapes that files have.
  files.tensors["q"] = f32_tensor({2, 3, 1}, {1, 2, 3, 4, 5, 6});
  files.tensors["k"] = f32_tensor({2, 1, 3}, {7, 8, 9, 10, 11, 12});
  Loading loading(files);
  std::span<const float> taps;
  loading.loader->convolution({{"q", "k"}, "", 3}, 4, taps);
  loading.load();
  EXPECT_EQ(copy_of(taps), (std::vector<float>{1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12}));
}

TEST(DenseLoader, WrongVectorsAreNamed) {
  CheckpointFiles files{json::object(), {}};
  files.tensors["short"] = f32_tensor({3}, {1, 2, 3});
  files.tensors["codes"] = {DType::u32, {4}, std::string(16, '\0')};
  Loading loading(files);
  std::span<const float> target;
  EXPECT_THAT([&] { loading.loader->vector({"short"}, 4, target); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'short'"), HasSubstr("3 elements"), HasSubstr("expected 4"))));
  EXPECT_THAT([&] { loading.loader->vector({"codes"}, 4, target); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'codes'"), HasSubstr("U32"), HasSubstr("BF16"))));
  EXPECT_THAT([&] { loading.loader->vector({"none"}, 4, target); }, ThrowsMessage<Error>(HasSubstr("none")));
}

/// Matrices of every kind, in several places of a file large enough for several reads.
TEST(DenseLoader, ProgressRisesToTheTotalAndWeightsAreTheirBytes) {
  CheckpointFiles files{json::object(), {}};
  const std::vector<float> first = random_values(600 * 700, 1);
  const std::vector<float> last = random_values(300, 2);
  files.tensors["a.weight"] = f32_tensor({600, 700}, first);
  files.tensors["b.skipped"] = f32_tensor({400, 500}, random_values(400 * 500, 3));
  files.tensors["c.weight"] = bf16_tensor({3, 10, 10}, last);
  files.tensors["d"] = f32_tensor({5}, {1, 2, 3, 4, 5});
  Loading loading(files);
  MatrixView a, a_again, c;
  std::span<const float> d;
  loading.loader->matrix({"a"}, 600, 700, a);
  loading.loader->matrix({"a"}, 600, 700, a_again);  // tied weights are asked for twice
  loading.loader->stack("c", 3, 10, 10, c);
  loading.loader->vector({"d"}, 5, d);
  const std::uint64_t bytes = 600 * 700 * 4 + 300 * 2 + 5 * 4;
  EXPECT_EQ(loading.loader->weight_bytes(), bytes);
  EXPECT_GE(loading.loader->memory_bytes(), bytes);
  EXPECT_LE(loading.loader->memory_bytes(), bytes + 64 * 1024 + 400 * 500);
  EXPECT_EQ(loading.loader->formats(), (std::set<std::string>{"bf16", "f32"}));
  std::vector<std::uint64_t> seen;
  std::uint64_t total = 0;
  loading.load([&](std::uint64_t done, std::uint64_t all) {
    seen.push_back(done);
    total = all;
  });
  EXPECT_EQ(seen.front(), 0U);
  EXPECT_EQ(seen.back(), total);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_GE(total, bytes);
  EXPECT_EQ(floats_of(a), first);
  EXPECT_EQ(a.codes, a_again.codes);
  EXPECT_EQ(c.rows, 30);
  EXPECT_EQ(floats_of(c), floats_of(files.tensors["c.weight"]));
  EXPECT_EQ(d[4], 5);
}

TEST(DenseLoader, Fp8BecomesBf16) {
  CheckpointFiles files{json::object(), {}};
  Tensor codes{DType::f8_e4m3, {130, 140}, std::string(130 * 140, '\0')};
  for (std::size_t i = 0; i < codes.bytes.size(); ++i) codes.bytes[i] = static_cast<char>(i * 7 % 120);
  const Tensor scales = f32_tensor({2, 2}, {0.1F, 0.7F, 1.3F, 0.011F});
  files.tensors["p.weight"] = codes;
  files.tensors["p.weight_scale_inv"] = scales;
  files.tensors["p.bias"] = bf16_tensor({130}, std::vector<float>(130, 1));
  Loading loading(files);
  MatrixView p;
  loading.loader->matrix({"p"}, 130, 140, p);
  EXPECT_EQ(loading.loader->weight_bytes(), 130U * 140U * 2U);
  std::uint64_t done = 0, total = 1;
  loading.load([&](std::uint64_t now, std::uint64_t all) { done = now, total = all; });
  EXPECT_EQ(done, total);
  EXPECT_EQ(p.format, kernels::plain_format(DType::bf16));
  EXPECT_EQ(floats_of(p),
            CheckpointFiles::decoded({Mode::fp8_block, 8, 128, DType::f32}, 140, codes, scales, Tensor()));
  EXPECT_THAT(
      [&] {
        loading.loader->matrix({"p", true}, 130, 140, p);
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("'p.bias'"), HasSubstr("FP8"))));
}

}  // namespace
}  // namespace sluice::model
