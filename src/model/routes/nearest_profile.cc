#include "model/routes/nearest_profile.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>
#include <tuple>

namespace sluice::model {
namespace {

/// "qwen35moe" of "qwen3_5_moe": names write their parts in different ways.
std::string letters_and_digits(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) result += c;
  }
  return result;
}

std::ptrdiff_t shared_beginning(std::string_view type, std::string_view name) {
  constexpr std::ptrdiff_t kLeast = 3;
  const std::string a = letters_and_digits(type);
  const std::string b = letters_and_digits(name);
  const auto length = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
  return length < kLeast ? 0 : length;
}

double distance(int a, int b) { return std::abs(std::log(static_cast<double>(a) / b)); }

}  // namespace

const RoutingProfile& nearest_profile(std::string_view model_type, int layers, int experts) {
  const auto rank = [&](const RoutingProfile& profile) {
    const bool other_shape = profile.layers != layers || profile.experts != experts;
    return std::tuple(other_shape, -shared_beginning(model_type, profile.name),
                      4 * distance(profile.experts, experts) + distance(profile.layers, layers));
  };
  return *std::min_element(routing_profiles().begin(), routing_profiles().end(),
                           [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
}

}  // namespace sluice::model
