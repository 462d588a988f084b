// Norms and activations on one thread, by instruction set.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

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

void bench_activation(benchmark::State& state, const Isa& isa, Activation activation) {
  ThreadTeam team(1);
  const std::int64_t n = state.range(0);
  const auto x = ramp(static_cast<std::size_t>(n));
  std::vector<float> y(x.size());
  for (auto _ : state) {
    activate({isa, team}, activation, x.data(), x.data(), n, y.data());
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

const bool kRegistered = [] {
  for (const Isa& isa : all_isas()) {
    if (!isa.supported()) continue;
    const std::string name(isa.name);
    const auto add = [&](const char* operation, auto function) {
      return benchmark::RegisterBenchmark((std::string(operation) + "/" + name).c_str(),
                                          [&isa, function](benchmark::State& state) { function(state, isa); });
    };
    add("rms_norm", bench_rms_norm)->Arg(2048);
    const auto add_activation = [&](const char* operation, Activation activation) {
      return add(operation,
                 [activation](benchmark::State& state, const Isa& on) { bench_activation(state, on, activation); });
    };
    add_activation("swiglu", Activation::swiglu)->Arg(768)->Arg(1 << 16);
    add_activation("gelu_tanh_glu", Activation::gelu_tanh_glu)->Arg(1 << 16);
    add_activation("clamped_swiglu", Activation::clamped_swiglu)->Arg(1 << 16);
    add_activation("relu2", Activation::relu2)->Arg(1 << 16);
    add("softmax", bench_softmax)->Arg(128);
  }
  return true;
}();

}  // namespace
}  // namespace sluice::kernels
