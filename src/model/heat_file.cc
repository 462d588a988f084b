#include "model/heat_file.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "model/json_file.h"

namespace sluice::model {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "sluice heat 1";

// Far above any model (routing traces have the same limits), and a file of that size could be written.
constexpr std::size_t kMaxLayers = 1024;
constexpr std::size_t kMaxExperts = 65536;
constexpr double kMaxLookups = 1e15;

// An idea, not a measurement: a few conversations. Routing follows the topic within tens of tokens, and what heat is
// asked for is what topics have in common.
constexpr double kHalfLifeSteps = 4096;

/// FNV-1a, 64 bits: enough to tell checkpoints apart that nobody has made to collide.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  void add(std::uint64_t number) { add(fmt::format("{},", number)); }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

const std::string& text_member(const json& object, const char* key, std::string_view name) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) fail("{}: no heat file: {} is not a string", name, key);
  return found->get_ref<const std::string&>();
}

std::vector<double> parse_layer(const json& layer, std::size_t index, std::string_view name) {
  if (!layer.is_array() || layer.empty() || layer.size() > kMaxExperts) {
    fail("{}: layer {} is not a list of 1 to {} numbers", name, index, kMaxExperts);
  }
  std::vector<double> lookups;
  lookups.reserve(layer.size());
  for (const json& value : layer) {
    const double number = value.is_number() ? value.get<double>() : -1;
    if (!(number >= 0 && number <= kMaxLookups)) {
      fail("{}: layer {}, expert {}: expected a number from 0 to {}", name, index, lookups.size(), kMaxLookups);
    }
    lookups.push_back(number);
  }
  return lookups;
}

}  // namespace

std::string checkpoint_identity(const stream::Checkpoint& checkpoint) {
  Hash hash;
  for (const stream::FileInfo& file : checkpoint.files()) hash.add(file.bytes);
  for (const stream::TensorInfo& tensor : checkpoint.tensors()) {
    hash.add(tensor.name);
    hash.add(name_of(tensor.dtype));
    for (const std::int64_t extent : tensor.shape) hash.add(static_cast<std::uint64_t>(extent));
    hash.add(static_cast<std::uint64_t>(tensor.file));
    hash.add(tensor.offset);
  }
  return fmt::format("{:016x}", hash.value());
}

Heat parse_heat(std::string_view text, std::string_view name) {
  const json document = parse_json(text, name);
  if (!document.is_object()) fail("{}: no heat file: not a JSON object", name);
  if (const std::string& format = text_member(document, "format", name); format != kFormat) {
    fail("{}: format is \"{}\", expected \"{}\"", name, printable(format), kFormat);
  }
  Heat heat;
  heat.checkpoint = text_member(document, "checkpoint", name);
  heat.model = text_member(document, "model", name);
  const auto layers = document.find("layers");
  if (layers == document.end() || !layers->is_array() || layers->size() > kMaxLayers) {
    fail("{}: layers is not a list of at most {} lists", name, kMaxLayers);
  }
  for (const json& layer : *layers) heat.layers.push_back(parse_layer(layer, heat.layers.size(), name));
  return heat;
}

std::string heat_text(const Heat& heat) {
  // A directory's name is any bytes; what is not UTF-8 is replaced.
  const auto quoted = [](const std::string& text) {
    return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::string text = fmt::format("{{\"format\": {}, \"checkpoint\": {}, \"model\": {}, \"layers\": [",
                                 quoted(std::string(kFormat)), quoted(heat.checkpoint), quoted(heat.model));
  for (std::size_t layer = 0; layer < heat.layers.size(); ++layer) {
    text += layer == 0 ? "\n[" : ",\n[";
    for (std::size_t expert = 0; expert < heat.layers[layer].size(); ++expert) {
      text += fmt::format("{}{}", expert == 0 ? "" : ",", heat.layers[layer][expert]);
    }
    text += ']';
  }
  return text + "\n]}\n";
}

Heat load_heat(const std::filesystem::path& path, std::string_view identity, std::span<const int> experts) {
  const std::string name = path.string();
  Heat heat = parse_heat(read_text_file(path, kMaxConfigBytes), name);
  const auto as_many = [](const std::vector<double>& layer, int count) {
    return layer.size() == static_cast<std::size_t>(count);
  };
  if (heat.checkpoint != identity ||
      !std::equal(heat.layers.begin(), heat.layers.end(), experts.begin(), experts.end(), as_many)) {
    fail("{}: belongs to another checkpoint ({}, {}; this one is {}); give --heat another file", name,
         printable(heat.model), printable(heat.checkpoint), identity);
  }
  return heat;
}

void add_lookups(Heat& heat, std::span<const std::vector<std::uint64_t>> lookups, std::uint64_t steps) {
  assert(heat.layers.size() == lookups.size());
  const double kept = std::exp2(-static_cast<double>(steps) / kHalfLifeSteps);
  for (std::size_t layer = 0; layer < lookups.size(); ++layer) {
    assert(heat.layers[layer].size() == lookups[layer].size());
    for (std::size_t expert = 0; expert < lookups[layer].size(); ++expert) {
      double& value = heat.layers[layer][expert];
      // Three decimals are more than enough, and keep the file short.
      value = std::round((value * kept + static_cast<double>(lookups[layer][expert])) * 1000) / 1000;
      value = std::min(value, kMaxLookups);
    }
  }
}

}  // namespace sluice::model
