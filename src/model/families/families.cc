#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "model/families/family.h"
#include "model/families/qwen3.h"

namespace sluice::model {
namespace {

constexpr Family kFamilies[] = {
    {"qwen3", qwen3_spec},
    {"qwen3_moe", qwen3_moe_spec},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

ModelSpec build_spec(const Config& config) {
  const std::string model_type = config.string("model_type");
  std::vector<std::string_view> known;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return family.build(config);
    known.push_back(family.model_type);
  }
  fail(
      "{}: model_type '{}' is not supported; the nearest known one is '{}' (known: {}). To add a family see "
      "CONTRIBUTING.md",
      config.file(), printable(model_type), nearest(model_type, known), fmt::join(known, ", "));
}

}  // namespace sluice::model
