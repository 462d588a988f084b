// Speed of the matrix kernels as a share of what the machine allows, measured in the same minute: bytes of weights
// per second beside a pure read of a buffer of the same size, multiply-adds beside the peak of the instruction.
//
// Weights lie beyond any cache, at odd addresses, as in a slot of a stock checkpoint.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/float16.h"
#include "base/memory.h"
#include "base/units.h"
#include "bench/machine.h"
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

std::vector<float> normal(std::size_t n, bool heavy_tailed = false) {
  std::mt19937 engine(1);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& value : values) {
    value = distribution(engine);
    if (heavy_tailed) value *= value * value;
  }
  return values;
}

/// Cuts matrices of one shape and format out of a buffer until it is full, each part at an odd address. Codes are
/// what the buffer holds; scales, biases and plain weights become ordinary numbers.
class Carver {
 public:
  explicit Carver(std::span<std::byte> memory) : memory_(memory) {}

  static std::size_t bytes(const Format& format, int rows, int cols) {
    return static_cast<std::size_t>(rows * code_row_bytes(format, cols) +
                                    scale_bytes(format, rows, cols) * (has_biases(format) ? 2 : 1));
  }

  bool has_room(const Format& format, int rows, int cols) const {
    return used_ + bytes(format, rows, cols) + 256 <= memory_.size();
  }

  MatrixView cut(const Format& format, int rows, int cols) {
    const auto scale_size = static_cast<std::size_t>(scale_bytes(format, rows, cols));
    std::byte* codes = part(static_cast<std::size_t>(rows * code_row_bytes(format, cols)));
    std::byte* scales = part(scale_size);
    std::byte* biases = part(has_biases(format) ? scale_size : 0);
    // Affine weights are centred, as real ones are: from -1.25 to 1.25 times the spread of a group.
    const float step = 2.5F / static_cast<float>((1 << format.bits) - 1);
    if (format.mode == Mode::plain) fill(codes, static_cast<std::size_t>(rows * cols), format, 1.0F);
    if (format.group != 0) fill(scales, scale_size / size_of(format.scale_type), format, step);
    if (has_biases(format)) fill(biases, scale_size / size_of(format.scale_type), format, -1.25F);
    return make_view(format, rows, cols, codes, scales, biases);
  }

 private:
  std::byte* part(std::size_t bytes) {
    std::byte* at = memory_.data() + used_ + 1;
    used_ = round_up(used_ + 1 + bytes, 64);
    return at;
  }

  /// Numbers of changing sign; the signs of scales and biases go together.
  static void fill(std::byte* at, std::size_t count, const Format& format, float value) {
    for (std::size_t i = 0; i < count; ++i) {
      const float x = (i * 0x9E3779B9U & 0x10000U) != 0 ? value : -value;
      const std::uint16_t half = format.scale_type == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x);
      if (format.scale_type == DType::f32) std::memcpy(at + 4 * i, &x, 4);
      if (size_of(format.scale_type) == 2) std::memcpy(at + 2 * i, &half, 2);
      if (format.scale_type == DType::u8) at[i] = std::byte(format.mode == Mode::nvfp4 ? 0x30 : 120);
    }
  }

  std::span<std::byte> memory_;
  std::size_t used_ = 0;
};

/// Fills `memory` with random bits.
void randomise(std::span<std::byte> memory) {
  std::mt19937_64 engine(2);
  for (std::size_t i = 0; i + 8 <= memory.size(); i += 8) {
    const std::uint64_t word = engine();
    std::memcpy(memory.data() + i, &word, 8);
  }
}

/// ||y - y64|| / ||y64|| of a product with 256 rows.
double relative_error(const Context& context, const Format& format, int cols, bool heavy_tailed) {
  const Buffer memory = Buffer::allocate(4 * kMiB, "a small matrix");
  randomise(memory.bytes());
  const MatrixView view = Carver(memory.bytes()).cut(format, 256, cols);
  const auto x = normal(static_cast<std::size_t>(cols), heavy_tailed);
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
        isa_(select_isa(options.isa)) {
    randomise(memory_.bytes());
  }

  void run() {
    for (const int threads : options_.threads) {
      ThreadTeam team(threads);
      const Context context{isa_, team};
      const double empty = fastest(5, [&] {
        for (int i = 0; i < 1000; ++i) team.run([](int) {});
      });
      fmt::print("\n{} threads, {}: one dispatch costs {:.2f} us\n", threads, isa_.name, empty * 1e3);
      for (const Format& format : formats()) gemv(context, format);
      for (const Format& format : {kAffine4, kAffine8}) {
        gemm(context, format);
        moe(context, format, 8, 768, 2048);
        moe(context, format, 22, 2688, 1024);
      }
    }
    if (!options_.json.empty()) std::ofstream(options_.json) << rows_.dump(1) << "\n";
  }

 private:
  static constexpr Format kAffine4{Mode::affine, 4, 64, DType::bf16};
  static constexpr Format kAffine8{Mode::affine, 8, 64, DType::bf16};

  static std::vector<Format> formats() {
    std::vector<Format> formats;
    for (const std::uint8_t bits : {2, 3, 4, 5, 6, 8}) formats.push_back({Mode::affine, bits, 64, DType::bf16});
    for (const std::uint16_t group : {32, 128}) {
      formats.push_back({Mode::affine, 4, group, DType::bf16});
      formats.push_back({Mode::affine, 8, group, DType::bf16});
    }
    formats.push_back({Mode::mxfp4, 4, 32, DType::u8});
    formats.push_back({Mode::nvfp4, 4, 16, DType::u8});
    formats.push_back({Mode::mxfp8, 8, 32, DType::u8});
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

  /// Collects a row and prints it: the common figures, then whatever else it holds.
  void report(const nlohmann::json& row, const Format& format) {
    fmt::print("{:<16} {:<22} {:>4} rows  {:6.2f} of {:6.2f} GB/s  {:5.1f} %", row["op"].get<std::string>(),
               to_string(format), row["rows"].get<int>(), row["gb_per_s"].get<double>(),
               row["read_gb_per_s"].get<double>(), 100 * row["ratio"].get<double>());
    for (const char* extra : {"rel_error", "rel_error_heavy", "us_per_step", "dispatches", "gmac_per_s", "of_peak"}) {
      if (row.contains(extra)) fmt::print("  {} {:.3g}", extra, row[extra].get<double>());
    }
    fmt::print("\n");
    std::fflush(stdout);
    rows_.push_back(row);
  }

  /// Decode: one input row through one matrix that fills the buffer.
  void gemv(const Context& context, const Format& format) {
    if (!wanted("gemv", format)) return;
    constexpr int kCols = 2048;
    const std::size_t row_bytes = Carver::bytes(format, 1, kCols);
    Carver carver(memory_.bytes());
    const MatrixView view = carver.cut(format, static_cast<int>((memory_.size() - 4096) / row_bytes), kCols);
    const auto x = normal(kCols);
    std::vector<float> y(static_cast<std::size_t>(view.rows));
    Workspace workspace;
    const Projection projection{&view, y.data(), view.rows};
    auto row = measure(context, "gemv", format, 1, static_cast<double>(row_bytes) * view.rows, [&] {
      matmul(context, x.data(), 1, {&projection, 1}, workspace);
    });
    row["rel_error"] = relative_error(context, format, kCols, false);
    row["rel_error_heavy"] = relative_error(context, format, kCols, true);
    report(row, format);
  }

  /// Prefill: many input rows.
  void gemm(const Context& context, const Format& format) {
    if (!wanted("gemm", format)) return;
    constexpr int kRows = 512;
    constexpr int kSize = 2048;
    Carver carver(memory_.bytes());
    const MatrixView view = carver.cut(format, kSize, kSize);
    const auto x = normal(std::size_t{kRows} * kSize);
    std::vector<float> y(std::size_t{kRows} * kSize);
    Workspace workspace;
    const Projection projection{&view, y.data(), kSize};
    auto row = measure(context, "gemm", format, kRows, static_cast<double>(Carver::bytes(format, kSize, kSize)), [&] {
      matmul(context, x.data(), kRows, {&projection, 1}, workspace);
    });
    const double macs = static_cast<double>(kRows) * kSize * kSize / row["seconds"].get<double>();
    row["gmac_per_s"] = macs / 1e9;
    if (const double peak = pmaddwd_peak(options_.repetitions); peak > 0) {
      row["of_peak"] = macs / (peak * context.team.size());
    }
    report(row, format);
  }

  /// Decode of a MoE layer: k experts [inner, hidden] chosen at random from all that fit into the buffer.
  void moe(const Context& context, const Format& format, int k, int inner, int hidden) {
    const char* const ops[] = {"gather", "moe_fused", "moe_stacked", "moe_per_expert"};
    if (std::none_of(std::begin(ops), std::end(ops), [&](const char* op) { return wanted(op, format); })) return;
    Carver carver(memory_.bytes());
    std::vector<MatrixView> gate;
    std::vector<MatrixView> up;
    std::vector<MatrixView> down;
    while (carver.has_room(format, 3 * inner, hidden)) {
      gate.push_back(carver.cut(format, inner, hidden));
      up.push_back(carver.cut(format, inner, hidden));
      down.push_back(carver.cut(format, hidden, inner));
    }
    const auto count = static_cast<std::size_t>(k);
    const std::size_t steps = gate.size() / count;  // so that no expert comes twice
    if (steps == 0) fail_usage("--mib: {} MiB hold {} experts, a step needs {}", options_.mebibytes, gate.size(), k);
    std::vector<int> order(gate.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    for (std::size_t step = 0; step < steps; ++step) {
      std::sort(order.begin() + static_cast<int>(step) * k, order.begin() + static_cast<int>(step + 1) * k);
    }

    const auto x = normal(static_cast<std::size_t>(hidden));
    const std::vector<float> weights(count, 1.0F / static_cast<float>(k));
    std::vector<float> y(static_cast<std::size_t>(hidden));
    std::vector<float> inner_y(2 * count * static_cast<std::size_t>(inner));
    std::vector<float> outputs(count * static_cast<std::size_t>(hidden));
    std::vector<GatherJob> jobs(count);
    std::vector<GatherJob> down_jobs(count);
    std::vector<ExpertViews> experts(count);
    Workspace workspace;

    const std::function<void()> gather = [&] {
      gather_matmul(context, gate, x.data(), 1, jobs, inner_y.data(), workspace);
    };
    const std::function<void()> fused = [&] {
      moe_fused(context, experts, weights, Activation::swiglu, x.data(), y.data(), workspace);
    };
    const std::function<void()> stacked = [&] {
      gather_activated(context, gate, up, Activation::swiglu, x.data(), 1, jobs, inner_y.data(), workspace);
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
        matmul(context, x.data(), 1, {&into_gate, 1}, workspace);
        matmul(context, x.data(), 1, {&into_up, 1}, workspace);
        activate(context, Activation::swiglu, gate_y, up_y, inner, gate_y);
        matmul(context, gate_y, 1, {&into_down, 1}, workspace);
      }
      weighted_sum(context, outputs.data(), weights.data(), 1, k, hidden, y.data());
    };

    const double matrix_bytes = static_cast<double>(Carver::bytes(format, inner, hidden)) * k;
    const auto path = [&](const std::string& op, double bytes, const std::function<void()>& step) {
      if (!wanted(op, format)) return;
      const auto pass = [&] {
        for (std::size_t first = 0; first < steps; ++first) {
          for (std::size_t e = 0; e < count; ++e) {
            const auto expert = static_cast<std::size_t>(order[first * count + e]);
            jobs[e] = {static_cast<int>(expert), 0, static_cast<int>(e)};
            down_jobs[e] = {static_cast<int>(expert), static_cast<int>(e), static_cast<int>(e)};
            experts[e] = {gate[expert], up[expert], down[expert]};
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
      report(row, format);
    };
    path("gather", matrix_bytes, gather);
    path("moe_fused", 3 * matrix_bytes, fused);
    path("moe_stacked", 3 * matrix_bytes, stacked);
    path("moe_per_expert", 3 * matrix_bytes, per_expert);
  }

  Options options_;
  Buffer memory_;
  const Isa& isa_;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace
}  // namespace sluice::kernels

int main(int argc, char** argv) {
  sluice::kernels::Options options;
  CLI::App app("Measures the matrix kernels against the memory bandwidth of this machine");
  app.add_option("--json", options.json, "Write the rows to this file");
  app.add_option("--threads", options.threads, "Thread counts to measure with");
  app.add_option("--isa", options.isa, "Instruction set (default: the fastest)");
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
