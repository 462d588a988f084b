#include "stream/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace sluice::stream {
namespace {

constexpr std::uint64_t kLengthBytes = 8;  // the header length stands before the header
constexpr std::string_view kMetadata = "__metadata__";

// Stacked expert tensors have three dimensions and convolution weights up to five. The limit bounds the memory that a
// lying header can claim.
constexpr std::size_t kMaxRank = 8;

// Metadata is a flat map from string to string; writers that nest a little are forgiven.
constexpr int kMaxMetadataDepth = 16;

/// Receives the header token by token. Every refusal is thrown from the callback that meets it, so nothing of a
/// hostile header is kept but the tensors already found good.
class HeaderSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderSax(std::uint64_t data_begin, std::uint64_t file_bytes, std::string_view file)
      : data_begin_(data_begin), file_bytes_(file_bytes), file_(file) {}

  std::vector<TensorInfo> take() { return std::move(tensors_); }

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return scalar("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return scalar("a fraction or a number beyond 64 bits");
  }
  bool binary(binary_t&) override { return scalar("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::shape) {
      if (tensor_.shape.size() == kMaxRank) refuse("has more than {} dimensions", kMaxRank);
      if (!std::in_range<std::int64_t>(value)) refuse("shape holds {}, which is beyond any file", value);
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (at_ == At::offsets) {
      if (offset_count_ == range_.size()) refuse("data_offsets holds more than two numbers");
      range_[offset_count_++] = value;
      return true;
    }
    return scalar("a number");
  }

  bool string(string_t& value) override {
    if (at_ != At::tensor || field_ != Field::dtype) return scalar("a string");
    const auto dtype = dtype_from_name(value);
    if (!dtype) refuse("has unknown dtype '{}'", printable(value));
    tensor_.dtype = *dtype;
    return true;
  }

  bool start_object(std::size_t) override {
    if (at_ == At::metadata) return enter_metadata();
    if (at_ == At::document) {
      at_ = At::header;
      return true;
    }
    if (at_ != At::header) unexpected("an object");
    if (tensor_.name == kMetadata) {
      at_ = At::metadata;
      return enter_metadata();
    }
    at_ = At::tensor;
    seen_ = {};
    offset_count_ = 0;
    return true;
  }

  bool end_object() override {
    if (at_ == At::metadata) return leave_metadata();
    if (at_ == At::tensor) {
      finish_tensor();
      at_ = At::header;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (at_ == At::metadata) return enter_metadata();
    if (at_ == At::tensor && field_ == Field::shape) {
      at_ = At::shape;
      return true;
    }
    if (at_ == At::tensor && field_ == Field::data_offsets) {
      at_ = At::offsets;
      return true;
    }
    unexpected("an array");
  }

  bool end_array() override {
    if (at_ == At::metadata) return leave_metadata();
    at_ = At::tensor;
    return true;
  }

  bool key(string_t& name) override {
    if (at_ == At::header) {
      tensor_ = TensorInfo{};
      tensor_.name = std::move(name);
    } else if (at_ == At::tensor) {
      const auto* known = std::find(kFieldNames.begin(), kFieldNames.end(), name);
      if (known == kFieldNames.end()) refuse("has unknown field '{}'", printable(name));
      const auto index = static_cast<std::size_t>(known - kFieldNames.begin());
      if (std::exchange(seen_[index], true)) refuse("has field '{}' twice", *known);
      field_ = static_cast<Field>(index);
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("{}: safetensors header is not valid JSON at byte {}", file_, kLengthBytes + position);
  }

 private:
  enum class At { document, header, metadata, tensor, shape, offsets };
  enum class Field : std::size_t { dtype, shape, data_offsets };
  static constexpr std::array<std::string_view, 3> kFieldNames{"dtype", "shape", "data_offsets"};  // order of Field

  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: tensor '{}' {}", file_, printable(tensor_.name), fmt::format(format, std::forward<Args>(args)...));
  }

  [[noreturn]] void unexpected(std::string_view found) const {
    switch (at_) {
      case At::document:
      case At::header:
        refuse("is {} in the header; expected an object", found);
      case At::tensor:
        refuse("has a {} that is {}; expected {}", kFieldNames[static_cast<std::size_t>(field_)], found,
               field_ == Field::dtype ? "a string" : "an array of integers");
      default:
        refuse("has {} in its {}; expected non-negative integers", found, at_ == At::shape ? "shape" : "data_offsets");
    }
  }

  bool scalar(std::string_view found) const {
    if (at_ != At::metadata) unexpected(found);
    return true;
  }

  bool enter_metadata() {
    if (++metadata_depth_ > kMaxMetadataDepth) fail("{}: {} is nested too deeply", file_, kMetadata);
    return true;
  }

  bool leave_metadata() {
    if (--metadata_depth_ == 0) at_ = At::header;
    return true;
  }

  void finish_tensor() {
    for (std::size_t field = 0; field < seen_.size(); ++field) {
      if (!seen_[field]) refuse("has no {}", kFieldNames[field]);
    }
    if (offset_count_ != range_.size()) refuse("has {} data_offsets; expected two", offset_count_);

    std::uint64_t expected = size_of(tensor_.dtype);
    for (const std::int64_t dimension : tensor_.shape) {
      if (__builtin_mul_overflow(expected, static_cast<std::uint64_t>(dimension), &expected)) {
        refuse("has a shape whose size overflows 64 bits");
      }
    }
    const auto [begin, end] = range_;
    if (begin > end) refuse("begins at {} after its end at {}", begin, end);
    if (end - begin != expected) {
      refuse("has {} bytes of data; its shape and dtype {} need {}", end - begin, name_of(tensor_.dtype), expected);
    }
    const std::uint64_t data_bytes = file_bytes_ - data_begin_;
    if (end > data_bytes) {
      refuse("ends at byte {} of the data, but the file holds only {}: truncated? download it again", end, data_bytes);
    }
    tensor_.offset = data_begin_ + begin;
    tensor_.bytes = expected;
    tensors_.push_back(std::move(tensor_));
  }

  const std::uint64_t data_begin_;  // where the data starts in the file
  const std::uint64_t file_bytes_;  // >= data_begin_
  const std::string_view file_;

  std::vector<TensorInfo> tensors_;
  At at_ = At::document;
  int metadata_depth_ = 0;

  // The tensor being read.
  TensorInfo tensor_;
  Field field_ = Field::dtype;
  std::array<bool, 3> seen_{};            // by Field
  std::array<std::uint64_t, 2> range_{};  // begin and end, relative to the data
  std::size_t offset_count_ = 0;          // how many of range_ were given
};

void refuse_duplicates(const std::vector<TensorInfo>& tensors, std::string_view file) {
  // Sorted rather than hashed: names that collide on purpose cannot make it slow.
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail("{}: tensor '{}' is in the header twice", file, printable(*twice));
}

/// `tensors` in order of offset, empty ones before what starts at the same byte.
void refuse_overlaps(const std::vector<TensorInfo>& tensors, std::string_view file) {
  const TensorInfo* last = nullptr;  // the last that is not empty
  for (const TensorInfo& tensor : tensors) {
    if (tensor.bytes == 0) continue;
    if (last != nullptr && tensor.offset < last->offset + last->bytes) {
      fail("{}: tensor '{}' overlaps tensor '{}' at byte {}", file, printable(tensor.name), printable(last->name),
           tensor.offset);
    }
    last = &tensor;
  }
}

}  // namespace

std::uint64_t header_length(std::span<const std::byte, 8> first_bytes, std::uint64_t file_bytes,
                            std::string_view file) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < first_bytes.size(); ++i) {
    length |= std::to_integer<std::uint64_t>(first_bytes[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    fail("{}: claims a header of {} bytes, more than the format's limit of {}: not a safetensors file", file, length,
         kMaxHeaderBytes);
  }
  if (file_bytes < kLengthBytes + length) {
    fail("{}: has {} bytes, its header alone needs {}: truncated? download it again", file, file_bytes,
         kLengthBytes + length);
  }
  return length;
}

std::vector<TensorInfo> parse_header(std::span<const std::byte> json, std::uint64_t file_bytes, std::string_view file) {
  const std::uint64_t data_begin = kLengthBytes + json.size();
  if (file_bytes < data_begin) fail("{}: has {} bytes, its header alone needs {}", file, file_bytes, data_begin);
  if (json.empty() || json.front() != std::byte{'{'}) fail("{}: safetensors header is not a JSON object", file);
  // The JSON parser takes a zero byte for the end of its input, which would hide what follows.
  if (std::find(json.begin(), json.end(), std::byte{0}) != json.end()) {
    fail("{}: safetensors header holds a zero byte", file);
  }
  HeaderSax sax(data_begin, file_bytes, file);
  const auto* text = reinterpret_cast<const char*>(json.data());
  nlohmann::json::sax_parse(text, text + json.size(), &sax);

  std::vector<TensorInfo> tensors = sax.take();
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  refuse_duplicates(tensors, file);
  refuse_overlaps(tensors, file);
  return tensors;
}

}  // namespace sluice::stream
