// Attention at 4096 positions, by instruction set, cache type and threads.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "kernels/attention.h"

namespace sluice::kernels {
namespace {

constexpr int kPositions = 4096;

struct Model {
  const char* name;
  KvShape shape;
  int heads;
  int window;
};
// Grouped queries as in Qwen3-30B-A3B, one kv head for many queries as in absorbed MLA (DeepSeek-V3), and a window.
const Model kModels[] = {{"gqa_f16", {4, 128, DType::f16}, 32, 0},
                         {"gqa_q8", {4, 128, DType::i8}, 32, 0},
                         {"gqa_f32", {4, 128, DType::f32}, 32, 0},
                         {"mla_f16", {1, 576, DType::f16, 512}, 128, 0},
                         {"window_f16", {8, 64, DType::f16}, 64, 128}};

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.02F;
  return values;
}

/// `rows` tokens that see all positions. Reported: bytes of cache that one row sees, and multiplications.
void bench_attention(benchmark::State& state, const Isa& isa, const Model& model, int threads) {
  const KvShape& shape = model.shape;
  const AttentionHeads heads{model.heads, 0.088F, model.window};
  ThreadTeam team(threads);
  const Context context{isa, team};
  Workspace workspace;
  const auto rows = static_cast<std::size_t>(state.range(0));

  std::vector<std::vector<std::byte>> storage(kPositions / kKvBlock, std::vector<std::byte>(shape.block_bytes()));
  std::vector<const std::byte*> blocks;
  const auto token = ramp(static_cast<std::size_t>(shape.kv_heads * shape.head_dim));
  for (int position = 0; position < kPositions; ++position) {
    auto& block = storage[static_cast<std::size_t>(position / kKvBlock)];
    if (position % kKvBlock == 0) blocks.push_back(block.data());
    store_kv(context, shape, block.data(), position, token.data(), token.data());
  }
  const auto q_width = static_cast<std::size_t>(model.heads * shape.head_dim);
  const auto out_width = static_cast<std::size_t>(model.heads * shape.value_dim());
  const auto q = ramp(rows * q_width);
  std::vector<float> out(rows * out_width);
  std::vector<AttentionRow> batch;
  for (std::size_t i = 0; i < rows; ++i) {
    batch.push_back({&q[i * q_width], &out[i * out_width], blocks.data(), kPositions - 1});
  }
  for (auto _ : state) {
    attention(context, shape, heads, batch, workspace);
    benchmark::DoNotOptimize(out.data());
  }
  const int seen = model.window > 0 ? model.window : kPositions;
  const double products = 1.0 * seen * model.heads * (shape.head_dim + shape.value_dim()) * static_cast<double>(rows);
  const auto bytes = static_cast<std::int64_t>(shape.block_bytes()) * seen / kKvBlock;
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["GMAC/s"] =
      benchmark::Counter(1e-9 * products, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

const bool kRegistered = [] {
  for (const Isa& isa : all_isas()) {
    if (!isa.supported()) continue;
    for (const Model& model : kModels) {
      for (const int threads : {1, available_cpus()}) {
        const std::string name = "attention_4k/" + std::string(model.name) + "/" + std::string(isa.name) +
                                 "/threads:" + std::to_string(threads);
        auto* registered = benchmark::RegisterBenchmark(name.c_str(), [&isa, &model, threads](benchmark::State& state) {
          bench_attention(state, isa, model, threads);
        });
        registered->ArgName("rows")->Arg(1)->Arg(16)->UseRealTime()->Unit(benchmark::kMicrosecond);
        if (available_cpus() == 1) break;
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace sluice::kernels
