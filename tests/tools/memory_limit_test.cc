// A model of about 1 GB under --memory: the process stays below it, and the limit changes no logit.
//
// Not built with sanitizers: their own tables are part of the resident set.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tools/model_copy.h"
#include "tools/program.h"

namespace sluice::tools::testing {
namespace {

constexpr int kHidden = 1024;
constexpr int kWidth = 1024;
constexpr int kLayers = 8;
constexpr int kExperts = 64;
constexpr int kVocabulary = 2048;
constexpr int kHeads = 8;
constexpr int kKvHeads = 2;
constexpr int kHeadDim = 64;

/// Builds a safetensors file tensor by tensor. Dense tensors are random; experts are holes in the file, which read as
/// zeros and take no disk space, but are read and kept like any others.
class SparseCheckpoint {
 public:
  void dense(const std::string& name, const std::vector<int>& shape) { add(name, "BF16", shape, 2); }
  void packed(const std::string& name, const std::vector<int>& shape) { add(name, "U32", shape, 4); }
  void hole(const std::string& name, const std::vector<int>& shape) { add(name, "BF16", shape, 2); }

  /// Tensors up to `random_end` get random values.
  void end_of_random() { random_end_ = size_; }

  std::uint64_t write(const std::filesystem::path& path) const {
    const std::string header = header_.dump();
    std::ofstream file(path, std::ios::binary);
    for (unsigned i = 0; i < 8; ++i) file.put(static_cast<char>(header.size() >> (8 * i)));
    file << header;
    std::mt19937 random(1);
    std::uniform_real_distribution<float> values(-0.05F, 0.05F);
    std::vector<char> bytes(random_end_);
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      const float value = values(random);
      std::memcpy(&bytes[i], reinterpret_cast<const char*>(&value) + 2, 2);  // the upper half of an f32 is a bf16
    }
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    std::filesystem::resize_file(path, 8 + header.size() + size_);
    return 8 + header.size() + size_;
  }

 private:
  void add(const std::string& name, const char* dtype, const std::vector<int>& shape, std::uint64_t element) {
    std::uint64_t bytes = element;
    for (const int extent : shape) bytes *= static_cast<std::uint64_t>(extent);
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {size_, size_ + bytes}}};
    size_ += bytes;
  }

  nlohmann::ordered_json header_;
  std::uint64_t size_ = 0;
  std::uint64_t random_end_ = 0;
};

/// A Qwen3-MoE model with 4-bit experts; returns the bytes of its file.
std::uint64_t write_large_model(const std::filesystem::path& directory) {
  const nlohmann::json config = {{"model_type", "qwen3_moe"},
                                 {"hidden_size", kHidden},
                                 {"num_hidden_layers", kLayers},
                                 {"vocab_size", kVocabulary},
                                 {"num_attention_heads", kHeads},
                                 {"num_key_value_heads", kKvHeads},
                                 {"head_dim", kHeadDim},
                                 {"rope_theta", 10000.0},
                                 {"num_experts", kExperts},
                                 {"num_experts_per_tok", 4},
                                 {"moe_intermediate_size", kWidth},
                                 {"max_position_embeddings", 1024},
                                 {"tie_word_embeddings", true},
                                 {"quantization", {{"group_size", 64}, {"bits", 4}}}};
  std::ofstream(directory / "config.json") << config;
  SparseCheckpoint checkpoint;
  checkpoint.dense("model.embed_tokens.weight", {kVocabulary, kHidden});
  checkpoint.dense("model.norm.weight", {kHidden});
  for (int l = 0; l < kLayers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    checkpoint.dense(layer + "input_layernorm.weight", {kHidden});
    checkpoint.dense(layer + "post_attention_layernorm.weight", {kHidden});
    checkpoint.dense(layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
    checkpoint.dense(layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
    checkpoint.dense(layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
    checkpoint.dense(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
    checkpoint.dense(layer + "self_attn.q_norm.weight", {kHeadDim});
    checkpoint.dense(layer + "self_attn.k_norm.weight", {kHeadDim});
    checkpoint.dense(layer + "mlp.gate.weight", {kExperts, kHidden});
  }
  checkpoint.end_of_random();
  for (int l = 0; l < kLayers; ++l) {
    for (const auto& [name, rows, cols] :
         {std::tuple{"gate_proj", kWidth, kHidden}, std::tuple{"up_proj", kWidth, kHidden},
          std::tuple{"down_proj", kHidden, kWidth}}) {
      const std::string module = "model.layers." + std::to_string(l) + ".mlp.switch_mlp." + name;
      checkpoint.packed(module + ".weight", {kExperts, rows, cols / 8});
      checkpoint.hole(module + ".scales", {kExperts, rows, cols / 64});
      checkpoint.hole(module + ".biases", {kExperts, rows, cols / 64});
    }
  }
  return checkpoint.write(directory / "model.safetensors");
}

/// Peak resident bytes of all programs this test has waited for.
std::uint64_t children_peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

TEST(MemoryLimit, HoldsOnAModelManyTimesItsSize) {
  const ScratchDirectory scratch;
  EXPECT_GT(write_large_model(scratch.path()), 900'000'000U);
  std::string tokens;
  for (int i = 0; i < 200; ++i) tokens += (i > 0 ? "," : "") + std::to_string((i * 37) % kVocabulary);
  const auto logits = [&](const std::string& memory, const std::string& file) {
    const ProgramResult result = run_program({"logits", "-m", scratch.path().string(), "--memory", memory, "--tokens",
                                              tokens, "--prefill", "150", "-o", (scratch / file).string()});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return read_file(scratch / file);
  };
  const std::string limited = logits("200MiB", "limited.safetensors");
  EXPECT_LT(children_peak_bytes(), 200U << 20);
  EXPECT_EQ(logits("400MiB", "roomy.safetensors"), limited);
}

TEST(MemoryLimit, BelowTheFloorIsOneClearError) {
  const ScratchDirectory scratch;
  write_large_model(scratch.path());
  const ProgramResult result = run_program(
      {"logits", "-m", scratch.path().string(), "--memory", "100MiB", "--tokens", "1", "-o", (scratch / "x").string()});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.errors.find("--memory"), std::string::npos) << result.errors;
  EXPECT_EQ(scratch.names(), (std::vector<std::string>{"config.json", "model.safetensors"}));
}

}  // namespace
}  // namespace sluice::tools::testing

#endif
