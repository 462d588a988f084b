// Recurrent mixers: the fused step of one token, and prefill, by instruction set and threads; and their projections
// alone, which is what a step would cost if everything between them were free.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/memory.h"
#include "kernels/delta_net.h"
#include "kernels/mamba2.h"
#include "kernels/matmul.h"

namespace sluice::kernels {
namespace {

/// Layers that take turns, so that weights and states come from memory as in a model, not from a cache.
constexpr int kLayers = 6;

constexpr Format kFormat{Mode::affine, 4, 64, DType::bf16};

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.02F;
  return values;
}

/// A quantized matrix with small weights, and its memory.
class Matrix {
 public:
  Matrix(int rows, int cols)
      : codes_(Buffer::allocate(static_cast<std::size_t>(rows * code_row_bytes(kFormat, cols)) + 3, "weights")),
        scales_(static_cast<std::size_t>(rows * scale_row_bytes(kFormat, cols)) / 2, 0x3C00),  // bf16 2^-7
        biases_(scales_.size(), 0xBD70) {  // -0.0586, half of the span
    for (std::size_t i = 0; i < codes_.size(); ++i) codes_.data()[i] = std::byte(i * 89 % 251);
    const auto bytes = [](const std::vector<std::uint16_t>& v) { return reinterpret_cast<const std::byte*>(v.data()); };
    view = make_view(kFormat, rows, cols, codes_.data(), bytes(scales_), bytes(biases_));
  }
  MatrixView view;
  std::int64_t bytes() const { return static_cast<std::int64_t>(codes_.size() + 4 * scales_.size()); }

 private:
  Buffer codes_;
  std::vector<std::uint16_t> scales_, biases_;
};

/// What is the same in both mixers: vectors of parameters, all the same ramp, and a state per layer.
struct Layer {
  Layer(int projected, int hidden, int inner, int channels, int memory_floats)
      : in(projected, hidden),
        out(hidden, inner),
        parameters(ramp(static_cast<std::size_t>(4 * channels))),
        conv_state(static_cast<std::size_t>(3 * channels)),
        memory(Buffer::allocate(static_cast<std::size_t>(memory_floats) * sizeof(float), "state")) {}
  RecurrentState state() { return {conv_state.data(), reinterpret_cast<float*>(memory.data())}; }
  std::int64_t weight_bytes() const { return in.bytes() + out.bytes(); }
  std::int64_t state_bytes() const { return static_cast<std::int64_t>(2 * memory.size()); }  // read, written

  Matrix in, out;
  std::vector<float> parameters, conv_state;
  Buffer memory;
};

/// Runs step(layer, x, states, y) over the layers in turn, each of which moves `bytes` to and from memory.
template <typename Step>
void measure(benchmark::State& state, std::vector<Layer>& layers, int hidden, std::int64_t bytes, Step step) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const auto x = ramp(rows * static_cast<std::size_t>(hidden));
  std::vector<float> y(x.size());
  std::size_t turn = 0;
  for (auto _ : state) {
    Layer& layer = layers[turn++ % layers.size()];
    const std::vector<RecurrentState> states(rows, layer.state());
    step(layer, x.data(), std::span(states), y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void bench_projections(benchmark::State& state, const Context& context, std::vector<Layer>& layers) {
  const int hidden = layers[0].in.view.cols;
  Workspace workspace;
  std::vector<float> projected(static_cast<std::size_t>(state.range(0) * layers[0].in.view.rows));
  measure(state, layers, hidden, layers[0].weight_bytes(),
          [&](Layer& layer, const float* x, std::span<const RecurrentState> states, float* y) {
            const auto rows = static_cast<int>(states.size());
            const Projection in{&layer.in.view, projected.data(), layer.in.view.rows};
            matmul(context, x, rows, {&in, 1}, workspace);
            const Projection out{&layer.out.view, y, hidden};
            matmul(context, projected.data(), rows, {&out, 1}, workspace);
          });
}

/// A layer of Nemotron 3 Nano.
void bench_mamba2(benchmark::State& state, const Isa& isa, int threads, bool projections_alone) {
  constexpr int kHidden = 2688;
  const Mamba2Shape shape{64, 64, 8, 128};
  ThreadTeam team(threads);
  Workspace workspace;
  std::vector<Layer> layers;
  for (int i = 0; i < kLayers; ++i) {
    layers.emplace_back(shape.projected(), kHidden, shape.inner(), shape.channels(), shape.inner() * shape.state);
  }
  if (projections_alone) return bench_projections(state, {isa, team}, layers);
  const std::int64_t bytes = layers[0].weight_bytes() + layers[0].state_bytes();
  measure(state, layers, kHidden, bytes,
          [&](Layer& layer, const float* x, std::span<const RecurrentState> states, float* y) {
            const float* any = layer.parameters.data();
            Mamba2Weights weights;
            weights.in_proj = layer.in.view;
            weights.conv = {4, shape.channels(), any, any};
            weights.dt_bias = weights.a_log = weights.d = weights.norm = any;
            weights.norm_eps = 1e-5F;
            weights.out_proj = layer.out.view;
            mamba2({isa, team}, shape, weights, x, states, y, workspace);
          });
}

/// A layer of Qwen3-Next-80B-A3B.
void bench_delta_net(benchmark::State& state, const Isa& isa, int threads, bool projections_alone) {
  constexpr int kHidden = 2048;
  const DeltaShape shape{16, 32, 128, 128};
  const int projected = shape.channels() + shape.value_width() + 2 * shape.value_heads;
  ThreadTeam team(threads);
  Workspace workspace;
  std::vector<Layer> layers;
  for (int i = 0; i < kLayers; ++i) {
    layers.emplace_back(projected, kHidden, shape.value_width(), shape.channels(), shape.value_width() * shape.key_dim);
  }
  if (projections_alone) return bench_projections(state, {isa, team}, layers);
  const std::int64_t bytes = layers[0].weight_bytes() + layers[0].state_bytes();
  measure(state, layers, kHidden, bytes,
          [&](Layer& layer, const float* x, std::span<const RecurrentState> states, float* y) {
            const float* any = layer.parameters.data();
            const ProjectionPart in{layer.in.view, 0};
            DeltaNetWeights weights;
            weights.in_proj = {&in, 1};
            weights.conv = {4, shape.channels(), any, nullptr};
            weights.dt_bias = weights.a_log = weights.norm = any;
            weights.norm_eps = 1e-6F;
            weights.out_proj = layer.out.view;
            delta_net({isa, team}, shape, weights, x, states, y, workspace);
          });
}

const bool kRegistered = [] {
  for (const Isa& isa : all_isas()) {
    if (!isa.supported()) continue;
    for (const int threads : {1, available_cpus()}) {
      const auto add = [&](const char* operation, auto function, bool projections_alone) {
        const std::string name =
            std::string(operation) + "/" + std::string(isa.name) + "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(
            name.c_str(), [=, &isa](benchmark::State& state) { function(state, isa, threads, projections_alone); })
            ->ArgName("rows")
            ->Arg(1)
            ->Arg(64)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      };
      add("mamba2", bench_mamba2, false);
      add("mamba2_projections", bench_mamba2, true);
      add("delta_net", bench_delta_net, false);
      add("delta_net_projections", bench_delta_net, true);
      if (available_cpus() == 1) break;
    }
  }
  return true;
}();

}  // namespace
}  // namespace sluice::kernels
