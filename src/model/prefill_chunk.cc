#include "model/prefill_chunk.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace sluice::model {

double used_share(int experts, int top_k, int tokens) {
  return 1 - std::pow(1 - static_cast<double>(top_k) / experts, tokens);
}

PrefillCost prefill_cost(std::span<const PrefillLayer> layers, const PrefillRates& rates, int tokens) {
  double bytes = 0;
  double multiplications = 0;  // of one token
  for (const PrefillLayer& layer : layers) {
    bytes += used_share(layer.experts, layer.top_k, tokens) * (layer.experts - layer.slots) *
             static_cast<double>(layer.read_bytes);
    multiplications +=
        layer.top_k * static_cast<double>(layer.expert_weights) + static_cast<double>(layer.shared_weights);
  }
  return {.disk_seconds = bytes / rates.disk, .multiply_seconds = tokens * multiplications / rates.multiply};
}

std::string to_string(const PrefillChunk& chunk) {
  const std::string cost = fmt::format("the disk needs {:.2g} s per chunk and the experts {:.2g} s of multiplication",
                                       chunk.cost.disk_seconds, chunk.cost.multiply_seconds);
  switch (chunk.reason) {
    case PrefillChunkReason::given:
      return "nothing to choose";
    case PrefillChunkReason::all_resident:
      return "auto: every expert has a slot";
    case PrefillChunkReason::unknown:
      return "auto: the rates of this machine are not known";
    case PrefillChunkReason::disk_hidden:
      return "auto: " + cost;
    case PrefillChunkReason::most:
      return "auto: " + cost + ", but no larger chunk fits";
  }
  return "";
}

PrefillChunk choose_prefill_chunk(std::span<const PrefillLayer> layers, const PrefillRates& rates, int context,
                                  const std::function<bool(int tokens)>& affordable) {
  PrefillChunk chunk;
  chunk.tokens = std::min(kDefaultPrefillChunk, context);
  const bool known = rates.disk > 0 && rates.multiply > 0;
  if (known) chunk.cost = prefill_cost(layers, rates, chunk.tokens);
  const auto all_resident = [](const PrefillLayer& layer) { return layer.slots >= layer.experts; };
  if (std::all_of(layers.begin(), layers.end(), all_resident)) {
    chunk.reason = PrefillChunkReason::all_resident;
    return chunk;
  }
  if (!known) {
    chunk.reason = PrefillChunkReason::unknown;
    return chunk;
  }
  while (!chunk.cost.hides_disk()) {
    const int larger = std::min(chunk.tokens + kDefaultPrefillChunk, std::min(context, kMostPrefillChunk));
    if (larger <= chunk.tokens || !affordable(larger)) {
      chunk.reason = PrefillChunkReason::most;
      return chunk;
    }
    chunk.tokens = larger;
    chunk.cost = prefill_cost(layers, rates, larger);
  }
  chunk.reason = PrefillChunkReason::disk_hidden;
  return chunk;
}

}  // namespace sluice::model
