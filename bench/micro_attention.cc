// Attention at 512 and 4096 positions, by instruction set, cache type and threads.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "kernels/attention.h"

namespace sluice::kernels {
namespace {

/// Bytes of cache that the layers of a model take together; each call reads the next layer's. As in a model, whose
/// weights are read in between, no cache of the processor still holds what the call before left there.
constexpr std::size_t kCacheBytes = std::size_t{192} << 20;

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
void bench_attention(benchmark::State& state, const Isa& isa, const Model& model, int positions, int threads) {
  const KvShape& shape = model.shape;
  const AttentionHeads heads{model.heads, 0.088F, model.window};
  ThreadTeam team(threads);
  const Context context{isa, team};
  Workspace workspace;
  const auto rows = static_cast<std::size_t>(state.range(0));

  const auto block_count = static_cast<std::size_t>(positions / kKvBlock);
  const std::size_t layer_bytes = block_count * shape.block_bytes();
  const std::size_t layers = kCacheBytes / layer_bytes;
  const Buffer storage = Buffer::allocate(layers * layer_bytes, "the caches of all layers");
  const auto token = ramp(static_cast<std::size_t>(shape.kv_heads * shape.head_dim));
  for (int position = 0; position < kKvBlock; ++position) {
    store_kv(context, shape, storage.data(), position, token.data(), token.data());
  }
  std::vector<const std::byte*> blocks;
  for (std::size_t i = 0; i < layers * block_count; ++i) {
    std::byte* block = storage.data() + i * shape.block_bytes();
    if (i > 0) std::memcpy(block, storage.data(), shape.block_bytes());
    blocks.push_back(block);
  }
  const auto q_width = static_cast<std::size_t>(model.heads * shape.head_dim);
  const auto out_width = static_cast<std::size_t>(model.heads * shape.value_dim());
  const auto q = ramp(rows * q_width);
  std::vector<float> out(rows * out_width);
  std::vector<AttentionRow> batch;
  for (std::size_t i = 0; i < rows; ++i) {
    batch.push_back({&q[i * q_width], &out[i * out_width], nullptr, positions - 1});
  }
  std::size_t layer = 0;
  for (auto _ : state) {
    for (AttentionRow& row : batch) row.blocks = blocks.data() + layer * block_count;
    layer = (layer + 1) % layers;
    attention(context, shape, heads, batch, workspace);
    benchmark::DoNotOptimize(out.data());
  }
  const int seen = model.window > 0 ? model.window : positions;
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
      for (const auto& [length, positions] : {std::pair{"512", 512}, std::pair{"4k", 4096}}) {
        for (const int threads : {1, available_cpus()}) {
          const std::string name = "attention_" + std::string(length) + "/" + model.name + "/" + std::string(isa.name) +
                                   "/threads:" + std::to_string(threads);
          const auto run = [&isa, &model, positions = positions, threads](benchmark::State& state) {
            bench_attention(state, isa, model, positions, threads);
          };
          auto* registered = benchmark::RegisterBenchmark(name.c_str(), run);
          registered->ArgName("rows")->Arg(1)->Arg(16)->UseRealTime()->Unit(benchmark::kMicrosecond);
          if (available_cpus() == 1) break;
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace sluice::kernels
