#include "model/config.h"

#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "model/json_file.h"

namespace sluice::model {

using nlohmann::json;

namespace {

/// A value for a message: short, on one line.
std::string shown(const json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

Config::Config(std::shared_ptr<const json> document, std::string file)
    : document_(std::move(document)), object_(document_.get()), file_(std::move(file)) {
  if (!object_->is_object()) fail("{}: expected a JSON object, found {}", file_, object_->type_name());
}

Config Config::load(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  return {std::make_shared<const json>(parse_json_file(path)), path.string()};
}

Config Config::parse(std::string_view text, const std::string& file) {
  return {std::make_shared<const json>(parse_json(text, file)), file};
}

const json* Config::find(std::string_view key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

bool Config::has(std::string_view key) const { return find(key) != nullptr; }

bool Config::is_string(std::string_view key) const { return has(key) && find(key)->is_string(); }

void Config::refuse(std::string_view key, std::string_view expected) const {
  const json* value = find(key);
  fail("{}: '{}' is {}, expected {}", file_, key, value == nullptr ? "missing" : shown(*value), expected);
}

double Config::number(std::string_view key, double low, double high) const {
  const json* value = find(key);
  const double number = value != nullptr && value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) refuse(key, fmt::format("a number from {} to {}", low, high));
  return number;
}

int Config::integer(std::string_view key, int low, int high) const {
  const json* value = find(key);
  const double number = value != nullptr && value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high && number == std::floor(number))) {
    refuse(key, fmt::format("an integer from {} to {}", low, high));
  }
  return static_cast<int>(number);
}

std::string Config::string(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr || !value->is_string()) refuse(key, "a string");
  return value->get<std::string>();
}

int Config::integer_or(std::string_view key, int fallback, int low, int high) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double Config::number_or(std::string_view key, double fallback, double low, double high) const {
  return has(key) ? number(key, low, high) : fallback;
}

bool Config::boolean_or(std::string_view key, bool fallback) const {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

std::string Config::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

const json* Config::list(std::string_view key) const {
  const json* value = find(key);
  if (value != nullptr && !value->is_array()) refuse(key, "a list");
  return value;
}

std::vector<int> Config::integers(std::string_view key) const {
  std::vector<int> result;
  const json* value = list(key);
  if (value == nullptr) return result;
  for (const json& item : *value) {
    if (!item.is_number_integer()) refuse(key, "a list of integers");
    result.push_back(item.get<int>());
  }
  return result;
}

std::vector<double> Config::numbers(std::string_view key) const {
  std::vector<double> result;
  const json* value = list(key);
  if (value == nullptr) return result;
  for (const json& item : *value) {
    if (!item.is_number()) refuse(key, "a list of numbers");
    result.push_back(item.get<double>());
  }
  return result;
}

std::vector<std::string> Config::strings(std::string_view key) const {
  std::vector<std::string> result;
  const json* value = list(key);
  if (value == nullptr) return result;
  for (const json& item : *value) {
    if (!item.is_string()) refuse(key, "a list of strings");
    result.push_back(item.get<std::string>());
  }
  return result;
}

Config Config::child(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr || !value->is_object()) refuse(key, "an object");
  Config result = *this;
  result.object_ = value;
  result.file_ = fmt::format("{}: '{}'", file_, key);
  return result;
}

}  // namespace sluice::model
