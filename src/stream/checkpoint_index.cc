#include "stream/checkpoint_index.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace sluice::stream {
namespace {

// What surrounds the weight map ("metadata": {"total_size": N}) is two levels deep.
constexpr int kMaxSkippedDepth = 32;

/// Whether `name` is a file in the directory of the index and nowhere else.
bool is_plain_name(std::string_view name) {
  const auto forbidden = [](char character) {
    const auto byte = static_cast<unsigned char>(character);
    return character == '/' || byte < 0x20 || byte == 0x7f;
  };
  return !name.empty() && name != "." && name != ".." && std::none_of(name.begin(), name.end(), forbidden);
}

class IndexSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexSax(std::string_view file) : file_(file) {}

  std::vector<IndexEntry> take() {
    if (!found_) fail("{}: has no \"weight_map\"", file_);
    return std::move(entries_);
  }

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t) override { return scalar(); }
  bool number_unsigned(number_unsigned_t) override { return scalar(); }
  bool number_float(number_float_t, const string_t&) override { return scalar(); }
  bool binary(binary_t&) override { return scalar(); }

  bool string(string_t& value) override {
    if (at_ != At::weight_map) return scalar();
    if (!is_plain_name(value)) {
      fail("{}: tensor '{}' is mapped to '{}', which is not a file name in this directory", file_, printable(key_),
           printable(value));
    }
    entries_.push_back({std::move(key_), std::move(value)});
    return true;
  }

  bool start_object(std::size_t) override {
    if (at_ == At::document) {
      at_ = At::top;
    } else if (at_ == At::top && key_ == "weight_map") {
      if (std::exchange(found_, true)) fail("{}: has \"weight_map\" twice", file_);
      at_ = At::weight_map;
    } else {
      return enter();
    }
    return true;
  }

  bool end_object() override {
    if (at_ != At::weight_map) return leave();
    at_ = At::top;
    return true;
  }

  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("{}: is not valid JSON at byte {}", file_, position);
  }

 private:
  enum class At { document, top, weight_map, skipped };

  /// A value that is neither the weight map nor in a skipped part must not be where an object or a file name belongs.
  void check_expected() const {
    if (at_ == At::document) fail("{}: is not a JSON object", file_);
    if (at_ == At::weight_map) fail("{}: tensor '{}' is not mapped to a file name", file_, printable(key_));
    if (at_ == At::top && key_ == "weight_map") fail("{}: \"weight_map\" is not an object", file_);
  }

  bool scalar() const {
    check_expected();
    return true;
  }

  bool enter() {
    check_expected();
    at_ = At::skipped;
    if (++depth_ > kMaxSkippedDepth) fail("{}: is nested too deeply", file_);
    return true;
  }

  bool leave() {
    if (at_ == At::skipped && --depth_ == 0) at_ = At::top;
    return true;
  }

  const std::string_view file_;
  std::vector<IndexEntry> entries_;
  std::string key_;
  At at_ = At::document;
  int depth_ = 0;  // of the skipped part
  bool found_ = false;
};

}  // namespace

std::vector<IndexEntry> parse_index(std::span<const std::byte> json, std::string_view file) {
  // The JSON parser takes a zero byte for the end of its input, which would hide what follows.
  if (std::find(json.begin(), json.end(), std::byte{0}) != json.end()) fail("{}: holds a zero byte", file);
  IndexSax sax(file);
  const auto* text = reinterpret_cast<const char*>(json.data());
  nlohmann::json::sax_parse(text, text + json.size(), &sax);

  std::vector<IndexEntry> entries = sax.take();
  std::sort(entries.begin(), entries.end(),
            [](const IndexEntry& a, const IndexEntry& b) { return a.tensor < b.tensor; });
  const auto twice = std::adjacent_find(entries.begin(), entries.end(),
                                        [](const IndexEntry& a, const IndexEntry& b) { return a.tensor == b.tensor; });
  if (twice != entries.end()) fail("{}: names tensor '{}' twice", file, printable(twice->tensor));
  return entries;
}

std::string dump_index(std::span<const IndexEntry> entries, std::uint64_t tensor_bytes) {
  nlohmann::json index = {{"metadata", {{"total_size", tensor_bytes}}}, {"weight_map", nlohmann::json::object()}};
  for (const IndexEntry& entry : entries) index["weight_map"][entry.tensor] = entry.file;
  return index.dump(4) + "\n";
}

std::string shard_name(std::size_t number, std::size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", number, count);
}

}  // namespace sluice::stream
