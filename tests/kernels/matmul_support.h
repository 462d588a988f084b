// What the tests of matrix products share: every format, random matrices at odd addresses, an f64 oracle.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <ostream>
#include <vector>

#include "base/float16.h"
#include "kernels/matmul.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {

/// Every format that a checkpoint may have.
inline std::vector<Format> all_formats() {
  std::vector<Format> formats;
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) formats.push_back(plain_format(type));
  for (const std::uint8_t bits : {2, 3, 4, 5, 6, 8}) {
    for (const std::uint16_t group : {32, 64, 128}) {
      for (const DType scales : {DType::f32, DType::f16, DType::bf16}) {
        formats.push_back({Mode::affine, bits, group, scales});
      }
    }
  }
  formats.push_back({Mode::mxfp4, 4, 32, DType::u8});
  formats.push_back({Mode::nvfp4, 4, 16, DType::u8});
  formats.push_back({Mode::mxfp8, 8, 32, DType::u8});
  for (const DType scales : {DType::f32, DType::f16, DType::bf16}) {
    for (const std::uint16_t group : {32, 64, 128}) formats.push_back({Mode::symmetric, 4, group, scales});
    formats.push_back({Mode::fp8_block, 8, 128, scales});
  }
  return formats;
}

/// Each packing once, with bf16 scales: enough where the scale type makes no difference.
inline std::vector<Format> packings() {
  std::vector<Format> formats;
  for (const Format& format : all_formats()) {
    if (format.group == 0 || format.scale_type == DType::u8 || format.scale_type == DType::bf16)
      formats.push_back(format);
  }
  return formats;
}

/// How a failing test shows its parameter.
inline void PrintTo(const Format& format, std::ostream* out) { *out << to_string(format); }

inline std::string format_name(const testing::TestParamInfo<Format>& info) {
  std::string name = to_string(info.param);
  for (char& c : name) c = c == ' ' || c == '-' ? '_' : c;
  return name;
}

/// Bytes at an odd address that end where their allocation ends, so that a sanitizer sees every read beyond.
class OddBytes {
 public:
  explicit OddBytes(std::size_t size, std::size_t slack = 0) : bytes_(new std::byte[1 + size + slack]()), size_(size) {}
  std::byte* data() const { return bytes_.get() + 1; }
  std::size_t size() const { return size_; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
};

inline void put_float(std::byte* array, std::size_t index, DType type, float value) {
  const std::uint16_t half = type == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
  if (type == DType::f32) {
    std::memcpy(array + 4 * index, &value, 4);
  } else {
    std::memcpy(array + 2 * index, &half, 2);
  }
}

/// A matrix with random codes and scales of ordinary size (floats: half of them negative), and its memory.
class TestMatrix {
 public:
  TestMatrix(const Format& format, int rows, int cols, unsigned seed)
      : codes_(static_cast<std::size_t>(rows * code_row_bytes(format, cols)), 3),
        scales_(static_cast<std::size_t>(scale_bytes(format, rows, cols))),
        biases_(has_biases(format) ? scales_.size() : 0),
        view_(make_view(format, rows, cols, codes_.data(), scales_.data(),
                        has_biases(format) ? biases_.data() : nullptr)) {
    Random random(seed);
    const bool plain = format.mode == Mode::plain;
    if (plain) fill_floats(codes_, random.normal(static_cast<std::size_t>(rows * cols), 0.05F));
    if (!plain && format.scale_type != DType::u8) {
      const std::size_t groups = scales_.size() / size_of(format.scale_type);
      fill_floats(scales_, random.normal(groups, 0.02F));
      if (has_biases(format)) fill_floats(biases_, random.normal(groups, 0.1F));
    }
    for (std::size_t i = 0; i < codes_.size() && !plain; ++i) codes_.data()[i] = std::byte(random.integer(0, 255));
    for (std::size_t i = 0; i < scales_.size() && format.scale_type == DType::u8; ++i) {
      // E4M3: 2^-3 to 2^3; E8M0: 2^-9 to 2^-3.
      scales_.data()[i] = std::byte(format.mode == Mode::nvfp4 ? random.integer(0x20, 0x50) : random.integer(118, 124));
    }
  }

  const MatrixView& view() const { return view_; }

  /// The view with a random Linear bias of `type`.
  const MatrixView& add_bias(DType type, unsigned seed) {
    const auto rows = static_cast<std::size_t>(view_.rows);
    bias_ = OddBytes(rows * size_of(type));
    const auto values = Random(seed).normal(rows);
    for (std::size_t row = 0; row < rows; ++row) put_float(bias_.data(), row, type, values[row]);
    view_.bias = bias_.data();
    view_.bias_type = type;
    view_.bias_stride = static_cast<std::int64_t>(size_of(type));
    return view_;
  }
  std::byte* codes() { return codes_.data(); }
  std::byte* scales() { return scales_.data(); }
  std::byte* biases() { return biases_.data(); }

 private:
  void fill_floats(const OddBytes& array, const std::vector<float>& values) const {
    for (std::size_t i = 0; i < values.size(); ++i) put_float(array.data(), i, view_.format.scale_type, values[i]);
  }

  OddBytes codes_;
  OddBytes scales_;
  OddBytes biases_;
  OddBytes bias_{0};
  MatrixView view_;
};

/// y [x_rows, view.rows] through matmul().
inline std::vector<float> product(const Context& context, const MatrixView& view, const std::vector<float>& x) {
  const int rows = static_cast<int>(x.size()) / view.cols;
  std::vector<float> y(static_cast<std::size_t>(rows) * static_cast<std::size_t>(view.rows));
  static Workspace workspace;  // one for all tests, so that they also meet memory that was used before
  const Projection projection{&view, y.data(), view.rows};
  matmul(context, x.data(), rows, {&projection, 1}, workspace);
  return y;
}

/// The same in f64, on the exact decoded weights.
inline std::vector<double> oracle(const MatrixView& view, const std::vector<float>& x) {
  const auto cols = static_cast<std::size_t>(view.cols);
  std::vector<double> y;
  std::vector<float> w(cols);
  for (std::size_t first = 0; first < x.size(); first += cols) {
    for (int row = 0; row < view.rows; ++row) {
      dequantize_row(view, row, w.data());
      double sum = 0;
      for (std::size_t i = 0; i < cols; ++i) sum += static_cast<double>(w[i]) * static_cast<double>(x[first + i]);
      y.push_back(sum);
    }
  }
  return y;
}

/// Two matrices of one shape in alternate rows of everything they consist of: what packed views of them hold, with
/// every stride doubled.
class InterleavedPair {
 public:
  InterleavedPair(const MatrixView& even, const MatrixView& odd) {
    const auto all = static_cast<std::size_t>(even.rows);
    const auto scale_rows = static_cast<std::size_t>(scale_row(even, even.rows - 1)) + 1;
    const auto place = [&](OddBytes& to, std::size_t rows, const std::byte* MatrixView::*part,
                           std::int64_t MatrixView::*stride) {
      if (even.*part == nullptr) return;
      const auto row_bytes = static_cast<std::size_t>(even.*stride);
      to = OddBytes(2 * rows * row_bytes, 3);
      for (std::size_t row = 0; row < rows; ++row) {
        std::memcpy(to.data() + 2 * row * row_bytes, even.*part + row * row_bytes, row_bytes);
        std::memcpy(to.data() + (2 * row + 1) * row_bytes, odd.*part + row * row_bytes, row_bytes);
      }
      even_.*part = to.data();
      odd_.*part = to.data() + row_bytes;
    };
    even_ = odd_ = even;
    place(codes_, all, &MatrixView::codes, &MatrixView::row_stride);
    place(scales_, scale_rows, &MatrixView::scales, &MatrixView::scale_stride);
    place(biases_, scale_rows, &MatrixView::biases, &MatrixView::scale_stride);
    place(bias_, all, &MatrixView::bias, &MatrixView::bias_stride);
    for (MatrixView* view : {&even_, &odd_}) {
      view->row_stride *= 2;
      view->scale_stride *= 2;
      view->bias_stride *= 2;
    }
  }

  const MatrixView& even() const { return even_; }
  const MatrixView& odd() const { return odd_; }

 private:
  MatrixView even_, odd_;
  OddBytes codes_{0}, scales_{0}, biases_{0}, bias_{0};
};

/// ||actual - expected|| / ||expected||.
template <typename Expected>
double relative_error(const std::vector<float>& actual, const std::vector<Expected>& expected) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto exact = static_cast<double>(expected[i]);
    error += (static_cast<double>(actual[i]) - exact) * (static_cast<double>(actual[i]) - exact);
    norm += exact * exact;
  }
  return std::sqrt(error / norm);
}

}  // namespace sluice::kernels
