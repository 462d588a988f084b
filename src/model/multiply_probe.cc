#include "model/multiply_probe.h"

#include <algorithm>
#include <vector>

#include "base/memory.h"
#include "kernels/matmul.h"

namespace sluice::model {
namespace {

constexpr double kProbeSeconds = 0.1;
constexpr int kLeastPasses = 2;     // the first does not count
constexpr int kExperts = 8;         // in one dispatch: enough work for every thread of a large machine
constexpr int kRowsPerExpert = 32;  // what 512 tokens give 128 experts with 8 per token

// As a byte of codes anything, as scales of every type normal numbers: denormal ones would take longer than real ones.
constexpr std::byte kWeightByte{0x3c};

// Kernels may load a few bytes past the end of a part.
constexpr std::uint64_t kTailSlack = 64;

}  // namespace

double probe_multiply(const ExpertLayout& layout, const kernels::Context& context, const stream::Clock& clock) {
  const Buffer weights = Buffer::allocate(
      layout.expert_bytes() + static_cast<std::uint64_t>(layout.records.parts) * kTailSlack, "multiplication probe");
  std::fill(weights.bytes().begin(), weights.bytes().end(), kWeightByte);
  std::vector<const std::byte*> parts;
  const std::byte* next = weights.data();
  for (int part = 0; part < layout.records.parts; ++part) {
    parts.push_back(next);
    next += layout.records.slice(0, part).bytes + kTailSlack;
  }
  const kernels::ExpertViews views = layout.views(parts);
  const std::vector<kernels::MatrixView> gates(layout.gate.rows > 0 ? kExperts : 0, views.gate);
  const std::vector<kernels::MatrixView> ups(kExperts, views.up);
  const std::vector<kernels::MatrixView> downs(kExperts, views.down);
  std::vector<kernels::GatherJob> jobs;
  for (int row = 0; row < kExperts * kRowsPerExpert; ++row) jobs.push_back({row / kRowsPerExpert, row, row});

  const auto rows = static_cast<std::size_t>(kExperts * kRowsPerExpert);
  std::vector<float> x(rows * static_cast<std::size_t>(layout.up.cols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8;
  std::vector<float> inner(rows * static_cast<std::size_t>(layout.up.rows));
  std::vector<float> y(rows * static_cast<std::size_t>(layout.down.rows));
  kernels::Workspace workspace;
  const double multiplications = static_cast<double>(rows) * static_cast<double>(layout.weights());
  double spent = 0;
  std::vector<double> times;
  for (int pass = 0; pass < kLeastPasses || spent < kProbeSeconds; ++pass) {
    const kernels::Workspace::Mark mark(workspace);
    const double start = clock();
    kernels::gather_activated(context, gates, ups, layout.activation, x.data(), static_cast<int>(rows), jobs,
                              inner.data(), workspace);
    kernels::gather_matmul(context, downs, inner.data(), static_cast<int>(rows), jobs, y.data(), workspace);
    const double seconds = clock() - start;
    if (pass == 0) continue;  // may have met cold pages
    spent += seconds;
    times.push_back(seconds);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return multiplications / *middle;
}

}  // namespace sluice::model
