// Speed of the matrix kernels as a share of what the machine allows, measured in the same minute: bytes of weights
// per second beside a pure read of a buffer of the same size, multiply-adds beside the peak of the instruction.
//
// Weights lie beyond any cache, at odd addresses, as in a slot of a stock checkpoint.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/memory.h"
#include "bench/machine.h"
#include "bench/weights.h"
#include "kernels/attention.h"
#include "kernels/delta_net.h"
#include "kernels/mamba2.h"
#include "kernels/matmul.h"
#include "kernels/vector.h"

namespace sluice::kernels {
namespace {

struct Options {
  std::string only;  // part of "op mode"
  std::string isa;
  std::string json;
  std::vector<int> threads = {1, available_cpus()};
  std::size_t mebibytes = 512;  // of weights
  int repetitions = 9;
};

/// ||y - exact|| / ||exact||.
double distance(std::span<const float> y, std::span<const float> exact) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(static_cast<double>(y[i]) - static_cast<double>(exact[i]), 2);
    norm += std::pow(static_cast<double>(exact[i]), 2);
  }
  return std::sqrt(error / norm);
}

/// Vector instructions per weight of the decode kernels as they are written, loads and stores left out: unpacking and
/// products, and what comes once per group and eight rows, that is, the horizontal sums, the scales and the f32 step.
/// 0: not counted. What a core can do at four of them per cycle (three on Intel) is the floor beside the memory.
double instructions_per_weight(std::string_view isa, const Format& format) {
  if (isa != "avx2" && isa != "avx512") return 0;
  const bool stream = format.bits == 3 || format.bits == 5 || format.bits == 6;
  const bool fp4 = format.mode == Mode::mxfp4 || format.mode == Mode::nvfp4;
  switch (format.mode) {
    case Mode::plain:  // load and widen, multiply
      return (format.scale_type == DType::f32 ? 1 : format.scale_type == DType::f16 ? 2 : 3) / 8.0;
    case Mode::mxfp8:  // of 16 codes: three to f16, two to f32, two scaled, two multiplied; and the scales
      return 9 / 16.0 + 7 / 256.0;
    case Mode::fp8_block:
      return 26 / 32.0;
    default:
      break;
  }
  // Codes are unpacked by chunks of `planes` vectors; a unit is a chunk or a group, whatever is larger.
  const bool bytes = isa == "avx512" || fp4 || format.bits == 2;
  const int lanes = bytes ? 32 : 16;
  const int planes = stream ? 1 : (bytes ? 8 : 16) / format.bits;
  const int unit = std::max<int>(planes * lanes, format.group);
  const double vectors = unit / lanes;
  double unpack = stream ? 3 : (fp4 ? 5 : 2 * planes - (bytes ? 1 : 2));
  if (isa == "avx512" && format.bits == 8) unpack = 0;
  double products = 2 * vectors - 1;                // pmaddwd and paddd
  if (bytes) products = 4 * vectors - 2 + 3;        // pmaddubsw and paddw for each half, two pmaddwd and paddd
  if (isa == "avx512") products = 2 * vectors + 2;  // vpdpbusd for each half, a shift and paddd
  const int groups = unit / format.group;
  const double scales = fp4 ? 6 : (format.mode == Mode::symmetric ? 3.5 : 5);
  const double step = 4;
  const double once = (groups == 1 ? 21 : 20) + groups * (scales + step);
  return (vectors / planes * unpack + products + once / 8) / unit;
}

/// ||y - y64|| / ||y64|| of a product with 256 rows.
double relative_error(const Context& context, const Format& format, int cols, Inputs inputs) {
  const Buffer memory = Buffer::allocate(4 * kMiB, "a small matrix");
  randomise(memory.bytes());
  const MatrixView view = Carver(memory.bytes()).cut(format, 256, cols);
  const auto x = random_inputs(static_cast<std::size_t>(cols), inputs);
  std::vector<float> y(static_cast<std::size_t>(view.rows));
  std::vector<float> w(x.size());
  Workspace workspace;
  const Projection projection{&view, y.data(), view.rows};
  matmul(context, x.data(), 1, {&projection, 1}, workspace);
  double error = 0;
  double norm = 0;
  for (int row = 0; row < view.rows; ++row) {
    dequantize_row(view, row, w.data());
    const auto times = [](double a, double b) { return a * b; };
    const double exact = std::inner_product(w.begin(), w.end(), x.begin(), 0.0, std::plus<>(), times);
    error += std::pow(static_cast<double>(y[static_cast<std::size_t>(row)]) - exact, 2);
    norm += exact * exact;
  }
  return std::sqrt(error / norm);
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        memory_(Buffer::allocate(options.mebibytes * kMiB, "the weights of the benchmark")),
        isa_(select_isa(options.isa)) {}

  void run() {
    for (const int threads : options_.threads) {
      ThreadTeam team(threads);
      const Context context{isa_, team};
      const double empty = fastest(5, [&] {
        for (int i = 0; i < 1000; ++i) team.run([](int) {});
      });
      fmt::print("\n{} threads, {}: one dispatch costs {:.2f} us\n", threads, isa_.name, empty * 1e3);
      us_per_dispatch_ = empty * 1e3;
      randomise(memory_.bytes());
      for (const Format& format : formats()) {
        gemv(context, format, 1);
        gemv(context, format, 0);
      }
      for (const Format& format : {kAffine4, kAffine8, kMxfp4}) gemm(context, format);
      for (const Format& format : {kAffine4, kAffine8}) {
        for (const Activation activation : {Activation::swiglu, Activation::relu2}) {
          moe(context, format, activation, 8, 768, 2048);
          moe(context, format, activation, 22, 2688, 1024);
        }
      }
      mamba2_step(context);
      delta_step(context);
      for (const DType type : {DType::f16, DType::i8}) attention_rows(context, type);
    }
    if (!options_.json.empty()) std::ofstream(options_.json) << rows_.dump(1) << "\n";
  }

 private:
  static constexpr Format kAffine4{Mode::affine, 4, 64, DType::bf16};
  static constexpr Format kAffine8{Mode::affine, 8, 64, DType::bf16};
  static constexpr Format kMxfp4{Mode::mxfp4, 4, 32, DType::u8};

  static std::vector<Format> formats() {
    std::vector<Format> formats;
    for (const std::uint8_t bits : {2, 3, 4, 5, 6, 8}) formats.push_back({Mode::affine, bits, 64, DType::bf16});
    for (const std::uint16_t group : {32, 128}) {
      formats.push_back({Mode::affine, 4, group, DType::bf16});
      formats.push_back({Mode::affine, 8, group, DType::bf16});
    }
    formats.push_back({Mode::symmetric, 4, 32, DType::bf16});
    formats.push_back(kMxfp4);
    formats.push_back({Mode::nvfp4, 4, 16, DType::u8});
    formats.push_back({Mode::mxfp8, 8, 32, DType::u8});
    formats.push_back({Mode::fp8_block, 8, 128, DType::f32});
    for (const DType type : {DType::bf16, DType::f16, DType::f32}) formats.push_back(plain_format(type));
    return formats;
  }

  bool wanted(const std::string& op, const Format& format) const {
    return (op + " " + to_string(format)).find(options_.only) != std::string::npos;
  }

  /// Runs `work`, which uses `bytes` of weights, and a pure read of the whole buffer by turns.
  nlohmann::json measure(const Context& context, const std::string& op, const Format& format, int rows, double bytes,
                         const std::function<void()>& work) {
    double seconds = 1e30;
    double read_seconds = 1e30;
    for (int i = 0; i < options_.repetitions; ++i) {
      seconds = std::min(seconds, fastest(1, work));
      read_seconds = std::min(read_seconds, fastest(1, [&] { read_all(context.team, memory_.bytes()); }));
    }
    const double rate = bytes / seconds;
    const double read_rate = static_cast<double>(memory_.size()) / read_seconds;
    const std::string mode = to_string(format);
    return {{"op", op},
            {"mode", mode.substr(0, mode.find(' '))},
            {"bits", format.bits},
            {"group_size", format.group},
            {"rows", rows},
            {"threads", context.team.size()},
            {"isa", context.isa.name},
            {"gb_per_s", rate / 1e9},
            {"read_gb_per_s", read_rate / 1e9},
            {"ratio", rate / read_rate},
            {"seconds", seconds}};
  }

  /// Collects a row and prints it: the common figures, then whatever else it holds. Shapes of gateless experts end in
  /// r.
  void report(const nlohmann::json& row, const std::string& format) {
    fmt::print("{:<16} {:<22} {:<14} {:>4} rows  {:6.2f} of {:6.2f} GB/s  {:5.1f} %", row["op"].get<std::string>(),
               format,
               row.value("shape", row.value("address", "")) + (row.value("activation", "") == "relu2" ? "r" : ""),
               row["rows"].get<int>(), row["gb_per_s"].get<double>(), row["read_gb_per_s"].get<double>(),
               100 * row["ratio"].get<double>());
    for (const char* extra : {"rel_error", "rel_error_heavy", "rel_error_relu2", "instructions_per_weight",
                              "us_per_step", "dispatches", "us_per_dispatch", "gmac_per_s", "of_peak"}) {
      if (row.contains(extra)) fmt::print("  {} {:.3g}", extra, row[extra].get<double>());
    }
    fmt::print("\n");
    std::fflush(stdout);
    rows_.push_back(row);
  }

  /// Decode: one input row through one matrix that fills the buffer, `shift` bytes behind cache lines.
  void gemv(const Context& context, const Format& format, std::size_t shift) {
    if (!wanted("gemv", format)) return;
    constexpr int kCols = 2048;
    constexpr int kUnit = 128;  // rows that may share scales
    const int units = static_cast<int>((memory_.size() - 4096) / Carver::bytes(format, kUnit, kCols));
    Carver carver(memory_.bytes(), shift);
    const MatrixView view = carver.cut(format, units * kUnit, kCols);
    const auto x = random_inputs(kCols);
    std::vector<float> y(static_cast<std::size_t>(view.rows));
    Workspace workspace;
    const Projection projection{&view, y.data(), view.rows};
    auto row = measure(context, "gemv", format, 1, static_cast<double>(Carver::bytes(format, view.rows, kCols)), [&] {
      matmul(context, x.data(), 1, {&projection, 1}, workspace);
    });
    row["address"] = shift == 0 ? "aligned" : "odd";
    row["rel_error"] = relative_error(context, format, kCols, Inputs::normal);
    row["rel_error_heavy"] = relative_error(context, format, kCols, Inputs::heavy);
    row["rel_error_relu2"] = relative_error(context, format, kCols, Inputs::relu2);
    if (const double count = instructions_per_weight(context.isa.name, format); count > 0) {
      row["instructions_per_weight"] = count;
    }
    report(row, to_string(format));
  }

  /// Prefill: many input rows.
  void gemm(const Context& context, const Format& format) {
    if (!wanted("gemm", format)) return;
    constexpr int kRows = 512;
    constexpr int kSize = 2048;
    Carver carver(memory_.bytes());
    const MatrixView view = carver.cut(format, kSize, kSize);
    const auto x = random_inputs(std::size_t{kRows} * kSize);
    std::vector<float> y(std::size_t{kRows} * kSize);
    Workspace workspace;
    const Projection projection{&view, y.data(), kSize};
    auto row = measure(context, "gemm", format, kRows, static_cast<double>(Carver::bytes(format, kSize, kSize)), [&] {
      matmul(context, x.data(), kRows, {&projection, 1}, workspace);
    });
    const double macs = static_cast<double>(kRows) * kSize * kSize / row["seconds"].get<double>();
    row["gmac_per_s"] = macs / 1e9;
    const std::vector<float> rounded = y;
    matmul(exact(context), x.data(), kRows, {&projection, 1}, workspace);
    row["rel_error"] = distance(rounded, y);
    if (const double peak = pmaddwd_peak(options_.repetitions); peak > 0) {
      row["of_peak"] = macs / (peak * context.team.size());
    }
    report(row, to_string(format));
  }

  /// The same with f32 activations, whose error is below 1e-6: what errors are measured against.
  static Context exact(const Context& context) { return {context.isa, context.team, ActivationKind::f32}; }

  /// Decode of a MoE layer: k experts [inner, hidden] chosen at random from all that fit into the buffer.
  void moe(const Context& team_context, const Format& format, Activation activation, int k, int inner, int hidden) {
    const char* const ops[] = {"gather", "moe_fused", "moe_stacked", "moe_per_expert"};
    if (std::none_of(std::begin(ops), std::end(ops), [&](const char* op) { return wanted(op, format); })) return;
    const bool gated = is_gated(activation);
    Context context = team_context;
    Carver carver(memory_.bytes());
    std::vector<MatrixView> gate;
    std::vector<MatrixView> up;
    std::vector<MatrixView> down;
    while (carver.has_room(format, 3 * inner + 256, hidden)) {
      if (gated) gate.push_back(carver.cut(format, inner, hidden));
      up.push_back(carver.cut(format, inner, hidden));
      down.push_back(carver.cut(format, hidden, inner));
    }
    const auto count = static_cast<std::size_t>(k);
    const std::size_t steps = up.size() / count;  // so that no expert comes twice
    if (steps == 0) fail_usage("--mib: {} MiB hold {} experts, a step needs {}", options_.mebibytes, up.size(), k);
    std::vector<int> order(up.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    for (std::size_t step = 0; step < steps; ++step) {
      std::sort(order.begin() + static_cast<int>(step) * k, order.begin() + static_cast<int>(step + 1) * k);
    }

    const auto x = random_inputs(static_cast<std::size_t>(hidden));
    const std::vector<float> weights(count, 1.0F / static_cast<float>(k));
    std::vector<float> y(static_cast<std::size_t>(hidden));
    std::vector<float> inner_y(2 * count * static_cast<std::size_t>(inner));
    std::vector<float> outputs(count * static_cast<std::size_t>(hidden));
    std::vector<GatherJob> jobs(count);
    std::vector<GatherJob> down_jobs(count);
    std::vector<ExpertViews> experts(count);
    Workspace workspace;

    const std::function<void()> gather = [&] {
      gather_matmul(context, up, x.data(), 1, jobs, inner_y.data(), workspace);
    };
    const std::function<void()> fused = [&] {
      moe_fused(context, experts, weights, activation, x.data(), y.data(), workspace);
    };
    const std::function<void()> stacked = [&] {
      gather_activated(context, gate, up, activation, x.data(), 1, jobs, inner_y.data(), workspace);
      gather_matmul(context, down, inner_y.data(), k, down_jobs, outputs.data(), workspace);
      weighted_sum(context, outputs.data(), weights.data(), 1, k, hidden, y.data());
    };
    const std::function<void()> per_expert = [&] {
      for (std::size_t e = 0; e < count; ++e) {
        float* gate_y = inner_y.data();
        float* up_y = inner_y.data() + inner;
        const Projection into_gate{&experts[e].gate, gate_y, inner};
        const Projection into_up{&experts[e].up, up_y, inner};
        const Projection into_down{&experts[e].down, outputs.data() + static_cast<std::int64_t>(e) * hidden, hidden};
        if (gated) matmul(context, x.data(), 1, {&into_gate, 1}, workspace);
        matmul(context, x.data(), 1, {&into_up, 1}, workspace);
        activate(context, activation, gate_y, up_y, inner, gate_y);
        matmul(context, gate_y, 1, {&into_down, 1}, workspace);
      }
      weighted_sum(context, outputs.data(), weights.data(), 1, k, hidden, y.data());
    };

    const double matrix_bytes = static_cast<double>(Carver::bytes(format, inner, hidden)) * k;
    const auto path = [&](const std::string& op, double bytes, const std::function<void()>& step,
                          std::span<const float> result) {
      if (!wanted(op, format)) return;
      const auto pass = [&] {
        for (std::size_t first = 0; first < steps; ++first) {
          for (std::size_t e = 0; e < count; ++e) {
            const auto expert = static_cast<std::size_t>(order[first * count + e]);
            jobs[e] = {static_cast<int>(expert), 0, static_cast<int>(e)};
            down_jobs[e] = {static_cast<int>(expert), static_cast<int>(e), static_cast<int>(e)};
            experts[e] = {gated ? gate[expert] : MatrixView(), up[expert], down[expert]};
          }
          step();
        }
      };
      const auto before = context.team.dispatches();
      pass();
      const auto dispatches = static_cast<double>(context.team.dispatches() - before) / static_cast<double>(steps);
      auto row = measure(context, op, format, 1, bytes * static_cast<double>(steps), pass);
      row["shape"] = fmt::format("{}x{}x{}", k, inner, hidden);
      row["us_per_step"] = row["seconds"].get<double>() / static_cast<double>(steps) * 1e6;
      row["dispatches"] = dispatches;
      row["us_per_dispatch"] = us_per_dispatch_;
      row["activation"] = gated ? "swiglu" : "relu2";
      const std::vector<float> rounded(result.begin(), result.end());
      context.activations = ActivationKind::f32;
      pass();
      context.activations = ActivationKind::int16;
      row["rel_error"] = distance(rounded, result);
      report(row, to_string(format));
    };
    const double matrices = gated ? 3 : 2;
    if (gated) path("gather", matrix_bytes, gather, std::span(inner_y).first(count * static_cast<std::size_t>(inner)));
    path("moe_fused", matrices * matrix_bytes, fused, y);
    path("moe_stacked", matrices * matrix_bytes, stacked, y);
    path("moe_per_expert", matrices * matrix_bytes, per_expert, y);
  }

  /// A layer of a recurrent mixer: projections from the buffer, a state of its own.
  struct RecurrentLayer {
    MatrixView in, out;
    std::vector<float> conv, memory;
    RecurrentState state() { return {conv.data(), memory.data()}; }
  };

  /// One token through one layer after the other, so many that weights and states come from memory.
  /// step(context, layer, x, y) is the mixer.
  template <typename Step>
  void recurrent(const Context& context, const std::string& op, int projected, int hidden, int inner, int channels,
                 int memory_floats, Step step) {
    if (!wanted(op, kAffine4)) return;
    constexpr std::size_t kMaxLayers = 16;
    Carver carver(memory_.bytes());
    std::vector<RecurrentLayer> layers;
    while (layers.size() < kMaxLayers && carver.has_room(kAffine4, projected + inner, std::max(hidden, inner))) {
      layers.push_back({carver.cut(kAffine4, projected, hidden), carver.cut(kAffine4, hidden, inner),
                        std::vector<float>(static_cast<std::size_t>(3 * channels)),
                        std::vector<float>(static_cast<std::size_t>(memory_floats))});
    }
    const auto x = random_inputs(static_cast<std::size_t>(hidden));
    std::vector<float> y(x.size());
    const auto forget = [&] {
      for (RecurrentLayer& layer : layers) {
        std::fill(layer.conv.begin(), layer.conv.end(), 0.0F);
        std::fill(layer.memory.begin(), layer.memory.end(), 0.0F);
      }
    };
    const auto pass = [&](const Context& on) {
      for (RecurrentLayer& layer : layers) step(on, layer, x.data(), y.data());
    };
    const double bytes =
        static_cast<double>(Carver::bytes(kAffine4, projected, hidden) + Carver::bytes(kAffine4, hidden, inner) +
                            2 * sizeof(float) * layers[0].memory.size());  // read and written
    const auto count = static_cast<double>(layers.size());
    const auto before = context.team.dispatches();
    pass(context);
    const auto dispatches = static_cast<double>(context.team.dispatches() - before);
    nlohmann::json row = measure(context, op, kAffine4, 1, bytes * count, [&] { pass(context); });
    row["us_per_step"] = row["seconds"].template get<double>() / count * 1e6;
    row["dispatches"] = dispatches / count;
    forget();
    pass(context);
    const std::vector<float> rounded = y;
    forget();
    pass(exact(context));
    row["rel_error"] = distance(rounded, y);
    report(row, to_string(kAffine4));
  }

  /// Mamba-2 as in Nemotron 3 Nano.
  void mamba2_step(const Context& context) {
    constexpr int kHidden = 2688;
    const Mamba2Shape shape{64, 64, 8, 128};
    const auto any = random_inputs(static_cast<std::size_t>(4 * shape.channels()));
    Workspace workspace;
    recurrent(context, "mamba2_step", shape.projected(), kHidden, shape.inner(), shape.channels(),
              shape.inner() * shape.state, [&](const Context& on, RecurrentLayer& layer, const float* x, float* y) {
                Mamba2Weights weights;
                weights.in_proj = layer.in;
                weights.conv = {4, shape.channels(), any.data(), any.data()};
                weights.dt_bias = weights.a_log = weights.d = weights.norm = any.data();
                weights.norm_eps = 1e-5F;
                weights.out_proj = layer.out;
                const RecurrentState state = layer.state();
                mamba2(on, shape, weights, x, {&state, 1}, y, workspace);
              });
  }

  /// The gated delta net as in Qwen3-Next-80B-A3B.
  void delta_step(const Context& context) {
    constexpr int kHidden = 2048;
    const DeltaShape shape{16, 32, 128, 128};
    const auto any = random_inputs(static_cast<std::size_t>(4 * shape.channels()));
    Workspace workspace;
    recurrent(context, "delta_step", shape.channels() + shape.value_width() + 2 * shape.value_heads, kHidden,
              shape.value_width(), shape.channels(), shape.value_width() * shape.key_dim,
              [&](const Context& on, RecurrentLayer& layer, const float* x, float* y) {
                const ProjectionPart in{layer.in, 0};
                DeltaNetWeights weights;
                weights.in_proj = {&in, 1};
                weights.conv = {4, shape.channels(), any.data(), nullptr};
                weights.dt_bias = weights.a_log = weights.norm = any.data();
                weights.norm_eps = 1e-6F;
                weights.out_proj = layer.out;
                const RecurrentState state = layer.state();
                delta_net(on, shape, weights, x, {&state, 1}, y, workspace);
              });
  }

  /// Attention of one row over 4,096 positions, grouped queries as in Qwen3-30B-A3B, layer after layer. The error is
  /// that of the cache type.
  void attention_rows(const Context& context, DType type) {
    const Format format{Mode::plain, static_cast<std::uint8_t>(8 * size_of(type)), 0, type};
    if ((std::string("attention ") + std::string(name_of(type))).find(options_.only) == std::string::npos) return;
    constexpr int kPositions = 4096;
    constexpr int kLayers = 8;
    constexpr int kHeads = 32;
    nlohmann::json result;
    const auto compute = [&](DType cache_type, bool timed) {
      const KvShape shape{4, 128, cache_type};
      Carver carver(memory_.bytes(), 0);
      std::vector<std::vector<const std::byte*>> blocks(kLayers);
      const auto tokens = random_inputs(static_cast<std::size_t>(512 + kPositions));
      for (auto& layer : blocks) {
        for (int position = 0; position < kPositions; ++position) {
          if (position % kKvBlock == 0) layer.push_back(carver.part(shape.block_bytes()));
          auto* block = const_cast<std::byte*>(layer.back());
          store_kv(context, shape, block, position, &tokens[static_cast<std::size_t>(position)],
                   &tokens[static_cast<std::size_t>(kPositions - position)]);
        }
      }
      const auto q = random_inputs(kHeads * 128);
      std::vector<float> out(kHeads * 128);
      Workspace workspace;
      const auto pass = [&] {
        for (const auto& layer : blocks) {
          const AttentionRow row{q.data(), out.data(), layer.data(), kPositions - 1};
          attention(context, shape, {kHeads, 0.088F}, {&row, 1}, workspace);
        }
      };
      pass();
      if (timed) {
        const double bytes = static_cast<double>(shape.block_bytes()) * kPositions / kKvBlock * kLayers;
        auto row = measure(context, "attention", format, 1, bytes, pass);
        row["mode"] = name_of(type);
        row["us_per_step"] = row["seconds"].get<double>() / kLayers * 1e6;
        row["gmac_per_s"] = 2.0 * kPositions * kHeads * 128 * kLayers / row["seconds"].get<double>() / 1e9;
        result = row;
      }
      return out;
    };
    const auto rounded = compute(type, true);
    result["rel_error"] = distance(rounded, compute(DType::f32, false));
    report(result, std::string(name_of(type)));
  }

  Options options_;
  Buffer memory_;
  const Isa& isa_;
  double us_per_dispatch_ = 0;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace
}  // namespace sluice::kernels

int main(int argc, char** argv) {
  sluice::kernels::Options options;
  CLI::App app("Measures the matrix kernels against the memory bandwidth of this machine");
  app.add_option("--json", options.json, "Write the rows to this file");
  app.add_option("--threads", options.threads, "Thread counts to measure with");
  app.add_option("--isa", options.isa, "Instruction set (default: the fastest)")->envname("SLUICE_ISA");
  app.add_option("--only", options.only, "Only rows whose op and format contain this");
  app.add_option("--mib", options.mebibytes, "MiB of weights; below 512 the caches help");
  app.add_option("--repetitions", options.repetitions, "Runs of each measurement; the fastest counts");
  CLI11_PARSE(app, argc, argv);
  try {
    sluice::kernels::Bench(options).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_kernels: {}\n", error.what());
    return 1;
  }
  return 0;
}
