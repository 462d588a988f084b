// kv_b_proj taken apart: floats as they are, quantized weights as the reference encodes them again.
#include "model/kv_b_split.h"

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

struct Split {
  MatrixView embed_q, unembed_out;
};

MlaSpec mla(int heads, int nope, int value, int latent) {
  MlaSpec spec;
  spec.heads = heads;
  spec.nope_dim = nope;
  spec.value_dim = value;
  spec.latent_dim = latent;
  spec.kv_b = "kv_b";
  return spec;
}

/// What the two matrices should hold, given what kv_b_proj [heads * (nope + value), latent] decodes to.
void expect_split(const Split& split, const MlaSpec& spec, const std::vector<float>& kv_b, double tolerance) {
  const std::vector<float> q = floats_of(split.embed_q);
  const std::vector<float> v = floats_of(split.unembed_out);
  ASSERT_EQ(q.size(), static_cast<std::size_t>(spec.heads * spec.latent_dim * spec.nope_dim));
  ASSERT_EQ(v.size(), static_cast<std::size_t>(spec.heads * spec.value_dim * spec.latent_dim));
  const auto at = [&](int head, int row, int col) {
    return kv_b[static_cast<std::size_t>((head * (spec.nope_dim + spec.value_dim) + row) * spec.latent_dim + col)];
  };
  for (int h = 0; h < spec.heads; ++h) {
    for (int c = 0; c < spec.latent_dim; ++c) {
      for (int r = 0; r < spec.nope_dim; ++r) {
        ASSERT_NEAR(q[static_cast<std::size_t>((h * spec.latent_dim + c) * spec.nope_dim + r)], at(h, r, c), tolerance);
      }
      for (int r = 0; r < spec.value_dim; ++r) {
        ASSERT_NEAR(v[static_cast<std::size_t>((h * spec.value_dim + r) * spec.latent_dim + c)],
                    at(h, spec.nope_dim + r, c), tolerance);
      }
    }
  }
}

TEST(KvBSplit, FloatsAreKeptInTheirType) {
  const MlaSpec spec = mla(3, 6, 5, 10);
  const std::vector<float> w = random_values(3 * 11 * 10, 1);
  for (const DType type : {DType::f32, DType::bf16}) {
    CheckpointFiles files{json::object(), {}};
    const Tensor tensor = type == DType::f32 ? f32_tensor({33, 10}, w) : bf16_tensor({33, 10}, w);
    files.tensors["kv_b.weight"] = tensor;
    Loading loading(files);
    Split split;
    request_kv_b_split(spec, *loading.loader, split.embed_q, split.unembed_out);
    loading.load();
    EXPECT_EQ(split.embed_q.format, kernels::plain_format(type));
    expect_split(split, spec, floats_of(tensor), 0);
  }
}

/// Quantized weights are encoded again along the new rows, if these are whole groups.
TEST(KvBSplit, AffineIsEncodedAgainWhereGroupsFit) {
  for (const auto& [nope, latent] : {std::pair{32, 64}, {48, 64}, {64, 32}}) {
    const MlaSpec spec = mla(2, nope, 16, latent);
    const int rows = 2 * (nope + 16);
    CheckpointFiles files{{{"quantization", {{"group_size", 32}, {"bits", 8}}}}, {}};
    std::mt19937 engine(5);
    Tensor codes{DType::u32, {rows, latent / 4}, std::string(static_cast<std::size_t>(rows * latent), '\0')};
    for (char& byte : codes.bytes) byte = static_cast<char>(engine());
    const auto groups = static_cast<std::size_t>(rows * latent / 32);
    const Tensor scales = bf16_tensor({rows, latent / 32}, std::vector<float>(groups, 0.0078125F));
    const Tensor biases = bf16_tensor({rows, latent / 32}, std::vector<float>(groups, -1.0F));
    files.tensors = {{"kv_b.weight", codes}, {"kv_b.scales", scales}, {"kv_b.biases", biases}};
    Loading loading(files);
    Split split;
    request_kv_b_split(spec, *loading.loader, split.embed_q, split.unembed_out);
    EXPECT_EQ(loading.loader->formats(), (std::set<std::string>{"affine 8-bit g32 bf16"}));
    loading.load();
    EXPECT_EQ(split.embed_q.format.mode, nope % 32 == 0 ? Mode::affine : Mode::plain);
    EXPECT_EQ(split.unembed_out.format.mode, Mode::affine);
    const std::vector<float> kv_b =
        CheckpointFiles::decoded({Mode::affine, 8, 32, DType::bf16}, latent, codes, scales, biases);
    // Half a step of eight bits over a range of two, and the rounding of scales to bf16.
    expect_split(split, spec, kv_b, 0.012);
    if (nope % 32 == 0) continue;
    // A half that stays decoded holds the values rounded to the type of the scales.
    const std::vector<float> q = floats_of(split.embed_q);
    EXPECT_EQ(q[0], bf16_to_f32(f32_to_bf16(kv_b[0])));
  }
}

TEST(KvBSplit, AWrongShapeIsNamed) {
  CheckpointFiles files{json::object(), {}};
  files.tensors["kv_b.weight"] = f32_tensor({4, 10}, random_values(40, 1));
  Loading loading(files);
  Split split;
  EXPECT_THAT([&] { request_kv_b_split(mla(1, 3, 2, 10), *loading.loader, split.embed_q, split.unembed_out); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'kv_b.weight'"), HasSubstr("[4, 10]"), HasSubstr("[5, 10]"))));
}

}  // namespace
}  // namespace sluice::model
