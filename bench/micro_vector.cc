// Norms, activations and attention on one thread and on all, by instruction set.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/vector.h"

namespace sluice::kernels {
namespace {

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.02F;
  return values;
}

void bench_rms_norm(benchmark::State& state, const Isa& isa) {
  ThreadTeam team(1);
  const auto n = static_cast<int>(state.range(0));
  const auto x = ramp(static_cast<std::size_t>(n));
  std::vector<float> y(x.size());
  for (auto _ : state) {
    rms_norm({isa, team}, x.data(), 1, n, x.data(), 1e-6F, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void bench_swiglu(benchmark::State& state, const Isa& isa) {
  ThreadTeam team(1);
  const std::int64_t n = state.range(0);
  const auto x = ramp(static_cast<std::size_t>(n));
  std::vector<float> y(x.size());
  for (auto _ : state) {
    swiglu({isa, team}, x.data(), x.data(), n, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void bench_softmax(benchmark::State& state, const Isa& isa) {
  ThreadTeam team(1);
  const auto n = static_cast<int>(state.range(0));
  const auto x = ramp(static_cast<std::size_t>(n));
  std::vector<float> y(x.size());
  for (auto _ : state) {
    y = x;
    softmax({isa, team}, y.data(), n);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

/// `rows` tokens that see 4096 positions: 32 query heads on 4 kv heads of 128, f16. Reported: bytes of cache that one
/// row sees, and GMAC/s.
void bench_attention(benchmark::State& state, const Isa& isa, int threads) {
  constexpr int kPositions = 4096, kHeads = 32;
  const KvShape shape{4, 128, DType::f16};
  ThreadTeam team(threads);
  const Context context{isa, team};
  const auto rows = static_cast<std::size_t>(state.range(0));

  std::vector<std::vector<std::byte>> storage(kPositions / kKvBlock, std::vector<std::byte>(shape.block_bytes()));
  std::vector<const std::byte*> blocks;
  const auto token = ramp(512);
  for (int position = 0; position < kPositions; ++position) {
    auto& block = storage[static_cast<std::size_t>(position / kKvBlock)];
    if (position % kKvBlock == 0) blocks.push_back(block.data());
    store_kv(context, shape, block.data(), position, token.data(), token.data());
  }
  const auto q = ramp(rows * kHeads * 128);
  std::vector<float> out(q.size());
  std::vector<AttentionRow> batch;
  for (std::size_t i = 0; i < rows; ++i) {
    batch.push_back({&q[i * kHeads * 128], &out[i * kHeads * 128], blocks.data(), kPositions - 1});
  }
  for (auto _ : state) {
    attention(context, shape, kHeads, 0.088F, batch);
    benchmark::DoNotOptimize(out.data());
  }
  const double macs = 2.0 * kPositions * kHeads * 128 * static_cast<double>(rows);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(storage.size() * shape.block_bytes()));
  state.counters["GMAC/s"] =
      benchmark::Counter(1e-9 * macs, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

const bool kRegistered = [] {
  for (const Isa& isa : all_isas()) {
    if (!isa.supported()) continue;
    const std::string name(isa.name);
    const auto add = [&](const char* operation, auto function) {
      return benchmark::RegisterBenchmark((std::string(operation) + "/" + name).c_str(),
                                          [&isa, function](benchmark::State& state) { function(state, isa); });
    };
    add("rms_norm", bench_rms_norm)->Arg(2048);
    add("swiglu", bench_swiglu)->Arg(768)->Arg(1 << 16);
    add("softmax", bench_softmax)->Arg(128);
    for (const int threads : {1, available_cpus()}) {
      const std::string attention_name = "attention_4k/" + name + "/threads:" + std::to_string(threads);
      auto* registered = benchmark::RegisterBenchmark(
          attention_name.c_str(), [&isa, threads](benchmark::State& state) { bench_attention(state, isa, threads); });
      registered->ArgName("rows")->Arg(1)->Arg(16)->UseRealTime()->Unit(benchmark::kMicrosecond);
      if (available_cpus() == 1) break;
    }
  }
  return true;
}();

}  // namespace
}  // namespace sluice::kernels
