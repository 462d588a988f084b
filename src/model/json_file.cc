#include "model/json_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/units.h"

namespace sluice::model {
namespace {

using nlohmann::json;

struct NonfiniteNumber {
  std::string_view word;    // as Python writes it
  std::string_view quoted;  // the same number of bytes, and a legal JSON string
  double value;
};

constexpr std::array<NonfiniteNumber, 3> kNonfiniteNumbers = {{
    {"-Infinity", "\"\x7f\x7f\x7f\x7f\x7f\x7f\x7f\"", -std::numeric_limits<double>::infinity()},
    {"Infinity", "\"\x7f\x7f\x7f\x7f\x7f\x7f\"", std::numeric_limits<double>::infinity()},
    {"NaN", "\"\x7f\"", std::numeric_limits<double>::quiet_NaN()},
}};

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// Builds the document from parser events. The library's own builder would do, were it not for its lack of a depth
/// limit and for its filter, which takes time quadratic in the length of an array of objects.
class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(const JsonVisitor& visitor, bool restore_nonfinite)
      : visitor_(visitor), restore_nonfinite_(restore_nonfinite) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return scalar(value); }
  bool binary(binary_t& /*value*/) override { return false; }  // does not occur in JSON text
  bool string(string_t& value) override {
    if (const std::optional<double> number = nonfinite_number(value)) return scalar(*number);
    return scalar(std::move(value));
  }

  bool start_object(std::size_t /*size*/) override { return open(json::object()); }
  bool start_array(std::size_t /*size*/) override { return open(json::array()); }
  bool key(string_t& name) override {
    if (nonfinite_number(name)) {
      problem_ = "a number stands where the name of a member is expected";
      return false;
    }
    path_.back() = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception...] parse error at line 1, column 2: syntax error ...; last read: '...'": the middle part is
    // what helps; the place is given by the caller and the end may be as long as the file.
    std::string_view what = error.what();
    if (const std::size_t place = what.find(" column "); place != std::string_view::npos) {
      what.remove_prefix(std::min(what.size(), what.find(": ", place)));
      what.remove_prefix(std::min<std::size_t>(what.size(), 2));
    } else if (const std::size_t bracket = what.find("] "); bracket != std::string_view::npos) {
      what.remove_prefix(bracket + 2);
    }
    what = what.substr(0, what.find("; last read"));
    problem_ = what.substr(0, 160);
    position_ = position;
    return false;
  }

  json take_document() { return std::move(root_); }
  const std::string& problem() const { return problem_; }
  /// Where parse_error() happened, in bytes, or nothing for the faults found here.
  std::optional<std::size_t> position() const { return position_; }

 private:
  /// The number that quote_nonfinite_numbers() turned into `text`, if it did.
  std::optional<double> nonfinite_number(std::string_view text) const {
    if (!restore_nonfinite_) return std::nullopt;
    for (const NonfiniteNumber& number : kNonfiniteNumbers) {
      if (text == number.quoted.substr(1, number.quoted.size() - 2)) return number.value;
    }
    return std::nullopt;
  }

  bool scalar(json value) {
    if (visitor_ && !visitor_(path_, value)) return true;
    place(std::move(value));
    return true;
  }

  bool open(json container) {
    if (static_cast<int>(open_.size()) == kMaxJsonDepth) {
      problem_ = fmt::format("nested deeper than {} levels", kMaxJsonDepth);
      return false;
    }
    open_.push_back(place(std::move(container)));
    path_.emplace_back();
    return true;
  }

  bool close() {
    json& closed = *open_.back();
    open_.pop_back();
    path_.pop_back();
    if (visitor_ && !visitor_(path_, closed)) {
      if (open_.empty()) {
        root_ = nullptr;
      } else if (open_.back()->is_array()) {
        open_.back()->erase(open_.back()->size() - 1);
      } else {
        open_.back()->erase(path_.back());
      }
    }
    return true;
  }

  /// Adds `value` to the innermost open container. A pointer to it stays valid while it is open: its parent does not
  /// grow before it is closed.
  json* place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[path_.back()] = std::move(value));
  }

  const JsonVisitor& visitor_;
  const bool restore_nonfinite_;
  json root_;
  std::vector<json*> open_;        // outermost first
  std::vector<std::string> path_;  // one entry per open container: the member being read, "" in an array
  std::string problem_;
  std::optional<std::size_t> position_;
};

/// "line 3, column 14" of the byte before `position`, where the parser stood when it gave up.
std::string line_and_column(std::string_view text, std::size_t position) {
  const std::string_view before = text.substr(0, position == 0 ? 0 : position - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("line {}, column {}", line, before.size() - line_start + 1);
}

}  // namespace

bool file_exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::status(path, error).type() != std::filesystem::file_type::not_found;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) fail("{}: no such file", path.string());
  if (error) fail("{}: cannot be read: {}", path.string(), error.message());
  if (!std::filesystem::is_regular_file(status)) fail("{}: is not a regular file", path.string());
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail("{}: cannot be read: {}", path.string(), error.message());
  if (size > max_bytes) {
    fail("{}: has {}, expected at most {}", path.string(), format_bytes(size), format_bytes(max_bytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file || !file.read(text.data(), static_cast<std::streamsize>(size))) {
    fail("{}: cannot be read: {}", path.string(), std::generic_category().message(errno));
  }
  return text;
}

std::string quote_nonfinite_numbers(std::string_view text) {
  std::string result(text);
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      in_string = c != '"';
      continue;
    }
    in_string = c == '"';
    if (c != '-' && c != 'I' && c != 'N') continue;
    if (at > 0 && is_word_character(text[at - 1])) continue;
    for (const NonfiniteNumber& number : kNonfiniteNumbers) {
      const std::size_t end = at + number.word.size();
      if (!text.substr(at).starts_with(number.word) || (end < text.size() && is_word_character(text[end]))) continue;
      result.replace(at, number.word.size(), number.quoted);
      at = end - 1;
      break;
    }
  }
  return result;
}

json parse_json(std::string_view text, std::string_view name, const JsonVisitor& visitor) {
  // Most files have no such word, or only inside strings (a vocabulary), and need no second copy.
  std::string rewritten;
  if (text.find("Infinity") != std::string_view::npos || text.find("NaN") != std::string_view::npos) {
    rewritten = quote_nonfinite_numbers(text);
    if (rewritten == text) rewritten = {};
  }
  const bool has_nonfinite = !rewritten.empty();
  if (has_nonfinite) text = rewritten;
  DocumentBuilder builder(visitor, has_nonfinite);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    const std::string place =
        builder.position() ? fmt::format(" at {}", line_and_column(text, *builder.position())) : std::string();
    fail("{}: not valid JSON{}: {}", name, place, builder.problem());
  }
  return builder.take_document();
}

json parse_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path, kMaxConfigBytes), path.string());
}

}  // namespace sluice::model
