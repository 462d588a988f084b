// Which experts a token goes to.
#include <algorithm>
#include <numeric>

#include "kernels/vector.h"
#include "model/layers/layers.h"

namespace sluice::model {
namespace {

/// Scores that a worker takes at once: 10 to 25 us of work, so that a decoded token takes no dispatch.
constexpr std::int64_t kScoresPerClaim = 2048;

/// Choices of experts outside the best groups become 0. The score of a group is the sum of its two best choices.
/// `scores` [groups] and `kept` [group_top_k] are scratch.
void mask_groups(kernels::TieRule ties, std::span<float> choice, std::span<float> scores, std::span<int> kept) {
  const std::size_t size = choice.size() / scores.size();
  for (std::size_t g = 0; g < scores.size(); ++g) {
    int best[2];
    kernels::top_k(choice.subspan(g * size, size), ties, best);
    scores[g] =
        choice[g * size + static_cast<std::size_t>(best[0])] + choice[g * size + static_cast<std::size_t>(best[1])];
  }
  // The reference drops the worst groups, on ties the one of lower index.
  kernels::top_k(scores, kernels::TieRule::higher_index, kept);
  for (std::size_t g = 0; g < scores.size(); ++g) {
    if (std::find(kept.begin(), kept.end(), static_cast<int>(g)) != kept.end()) continue;
    std::fill_n(&choice[g * size], size, 0.0F);
  }
}

}  // namespace

void route(const kernels::Context& context, const RouterSpec& spec, int experts, int top_k,
           std::span<const float> correction, std::span<const float> expert_scale, std::span<float> logits,
           std::span<int> ids, std::span<float> route_weights, kernels::Workspace& workspace) {
  const kernels::Workspace::Mark mark(workspace);
  const auto n = static_cast<std::size_t>(experts);
  const auto k = static_cast<std::size_t>(top_k);
  const std::size_t rows = logits.size() / n;
  const auto groups = static_cast<std::size_t>(spec.groups);
  const auto group_top_k = static_cast<std::size_t>(spec.group_top_k);
  // Scratch of all rows, since workers cannot take from the workspace.
  const std::span<float> choices = workspace.take<float>(logits.size());       // [T, experts]
  const std::span<float> group_scores = workspace.take<float>(rows * groups);  // [T, groups]
  const std::span<int> groups_kept = workspace.take<int>(rows * group_top_k);  // [T, group_top_k]
  if (spec.scoring == RouterScoring::sigmoid) {
    kernels::sigmoid(context, logits.data(), static_cast<std::int64_t>(logits.size()), logits.data());
  }
  const auto route_row = [&](std::size_t row) {
    const std::span<float> scores = logits.subspan(row * n, n);
    const std::span<int> chosen = ids.subspan(row * k, k);
    const std::span<float> weights = route_weights.subspan(row * k, k);
    if (spec.scoring == RouterScoring::softmax) kernels::softmax(context, scores.data(), experts);
    const std::span<float> choice = choices.subspan(row * n, n);
    std::copy(scores.begin(), scores.end(), choice.begin());
    for (std::size_t e = 0; e < correction.size(); ++e) choice[e] += correction[e];
    if (spec.groups > 1) {
      mask_groups(spec.ties, choice, group_scores.subspan(row * groups, groups),
                  groups_kept.subspan(row * group_top_k, group_top_k));
    }
    kernels::top_k(choice, spec.ties, chosen);
    for (std::size_t j = 0; j < k; ++j) weights[j] = scores[static_cast<std::size_t>(chosen[j])];
    if (spec.scoring == RouterScoring::softmax_chosen) kernels::softmax(context, weights.data(), top_k);
    if (spec.normalize) {
      const float sum = std::accumulate(weights.begin(), weights.end(), 0.0F) + spec.normalize_eps;
      for (float& weight : weights) weight /= sum;
    }
    if (spec.scale != 1) {
      for (float& weight : weights) weight *= spec.scale;
    }
    if (!expert_scale.empty()) {
      for (std::size_t j = 0; j < k; ++j) weights[j] *= expert_scale[static_cast<std::size_t>(chosen[j])];
    }
  };
  context.team.parallel_for(static_cast<std::int64_t>(rows), std::max<std::int64_t>(1, kScoresPerClaim / experts),
                            [&](std::int64_t begin, std::int64_t end) {
                              for (; begin < end; ++begin) route_row(static_cast<std::size_t>(begin));
                            });
}

}  // namespace sluice::model
