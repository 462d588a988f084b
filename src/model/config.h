// Typed access to config.json: every look-up checks type and range, and every error names the file and the key.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

/// A parsed config.json, or an object inside one. Copies share the document. Absent and null keys are the same.
class Config {
 public:
  /// Reads DIRECTORY/config.json. Throws Error if it is missing or broken.
  static Config load(const std::filesystem::path& directory);
  /// For tests: `text` as if it were read from `file`.
  static Config parse(std::string_view text, const std::string& file);

  const std::string& file() const { return file_; }
  const nlohmann::json& object() const { return *object_; }

  bool has(std::string_view key) const;
  bool is_string(std::string_view key) const;
  /// Required values; throw Error when missing, of another type, or outside [low, high].
  int integer(std::string_view key, int low, int high) const;
  double number(std::string_view key, double low, double high) const;
  std::string string(std::string_view key) const;
  /// The same with a default for an absent key.
  int integer_or(std::string_view key, int fallback, int low, int high) const;
  double number_or(std::string_view key, double fallback, double low, double high) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;
  /// Lists; empty if absent.
  std::vector<int> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  /// The object at `key`, which must be there.
  Config child(std::string_view key) const;

  /// Throws Error: the value of `key` is not what this program supports. `expected` says what is.
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

 private:
  Config(std::shared_ptr<const nlohmann::json> document, std::string file);
  const nlohmann::json* find(std::string_view key) const;
  const nlohmann::json* list(std::string_view key) const;  // null if absent

  std::shared_ptr<const nlohmann::json> document_;
  const nlohmann::json* object_;
  std::string file_;  // for messages, with the path of an object inside it
};

}  // namespace sluice::model
