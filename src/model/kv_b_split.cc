#include "model/kv_b_split.h"

#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/float16.h"
#include "base/memory.h"
#include "kernels/affine_encode.h"
#include "kernels/matmul.h"

namespace sluice::model {

using kernels::Format;
using kernels::MatrixView;
using kernels::Mode;

namespace {

float rounded(float value, DType type) {
  if (type == DType::bf16) return bf16_to_f32(f32_to_bf16(value));
  if (type == DType::f16) return f16_to_f32(f32_to_f16(value));
  return value;
}

/// Row `row` of kv_b_proj in f32, through the type the reference computes in.
void decode_row(const MatrixView& view, int row, float* w) {
  if (view.format.mode != Mode::affine) {
    kernels::dequantize_row(view, row, w);
    return;
  }
  // q * scale alone: the same row without biases. Zero bytes are zero in every float type.
  const std::vector<std::byte> zeros(static_cast<std::size_t>(view.scale_stride));
  MatrixView products = kernels::row_slice(view, row, 1);
  MatrixView biases = products;
  products.biases = zeros.data();
  kernels::dequantize_row(products, 0, w);
  biases.scales = zeros.data();
  std::vector<float> bias(static_cast<std::size_t>(view.cols));
  kernels::dequantize_row(biases, 0, bias.data());
  const DType type = view.format.scale_type;
  for (std::size_t i = 0; i < bias.size(); ++i) w[i] = rounded(rounded(w[i], type) + bias[i], type);
}

/// How one of the two matrices is kept.
struct Half {
  Format format;
  int rows, cols;
  std::uint64_t codes, scales, biases;  // offsets in the result
  std::uint64_t end;

  Half(const Format& stored, int row_count, int col_count, std::uint64_t at)
      : format(stored), rows(row_count), cols(col_count), codes(at), scales(at), biases(at), end(at) {
    const bool encode = stored.mode == Mode::affine && cols % stored.group == 0;
    if (!encode) {
      const bool is_float = stored.mode == Mode::plain || kernels::is_affine(stored);
      format = kernels::plain_format(is_float ? stored.scale_type : DType::bf16);
    }
    const auto count = static_cast<std::uint64_t>(rows);
    scales = codes + count * static_cast<std::uint64_t>(kernels::code_row_bytes(format, cols));
    biases = scales + count * static_cast<std::uint64_t>(kernels::scale_row_bytes(format, cols));
    end = biases + (kernels::has_biases(format) ? biases - scales : 0);
  }

  MatrixView view(std::byte* out) const {
    return kernels::make_view(format, rows, cols, out + codes, format.group > 0 ? out + scales : nullptr,
                              kernels::has_biases(format) ? out + biases : nullptr);
  }

  void store(int row, const float* w, std::byte* out) const {
    const auto index = static_cast<std::uint64_t>(row);
    std::byte* code_row = out + codes + index * static_cast<std::uint64_t>(kernels::code_row_bytes(format, cols));
    if (format.mode == Mode::affine) {
      const std::uint64_t scale_row = index * static_cast<std::uint64_t>(kernels::scale_row_bytes(format, cols));
      kernels::encode_affine(format, w, cols, code_row, out + scales + scale_row, out + biases + scale_row);
      return;
    }
    for (int i = 0; i < cols; ++i) {
      if (format.scale_type == DType::f32) {
        std::memcpy(code_row + std::int64_t{4} * i, &w[i], 4);
      } else {
        const std::uint16_t bits = format.scale_type == DType::bf16 ? f32_to_bf16(w[i]) : f32_to_f16(w[i]);
        std::memcpy(code_row + std::int64_t{2} * i, &bits, 2);
      }
    }
  }
};

}  // namespace

void request_kv_b_split(const MlaSpec& spec, DenseLoader& loader, MatrixView& embed_q, MatrixView& unembed_out) {
  const int head_rows = spec.nope_dim + spec.value_dim;
  const MatrixTensors tensors =
      find_matrix(loader.checkpoint(), loader.quantization(), {spec.kv_b}, spec.heads * head_rows, spec.latent_dim);
  const Format stored = tensors.format;
  const Half query(stored, spec.heads * spec.latent_dim, spec.nope_dim, 0);
  const Half value(stored, spec.heads * spec.value_dim, spec.latent_dim, query.end);
  Conversion conversion;
  conversion.format = kernels::to_string(stored);
  conversion.bytes = value.end;
  conversion.weights = static_cast<std::uint64_t>(spec.heads) * static_cast<std::uint64_t>(head_rows) *
                       static_cast<std::uint64_t>(spec.latent_dim);
  for (const auto* tensor : {tensors.codes, tensors.scales, tensors.biases}) {
    if (tensor != nullptr) conversion.sources.push_back(tensor);
  }
  conversion.make = [spec, stored, head_rows, query, value, &embed_q, &unembed_out](
                        std::span<const std::byte* const> sources, std::byte* out) {
    const auto source = [&](std::size_t i) { return i < sources.size() ? sources[i] : nullptr; };
    const MatrixView view =
        kernels::make_view(stored, spec.heads * head_rows, spec.latent_dim, source(0), source(1), source(2));
    const auto latent = static_cast<std::size_t>(spec.latent_dim);
    const auto nope = static_cast<std::size_t>(spec.nope_dim);
    std::vector<float> row(latent);
    std::vector<float> turned(latent * nope);  // of one head: [latent, nope]
    for (int head = 0; head < spec.heads; ++head) {
      for (std::size_t r = 0; r < nope; ++r) {
        decode_row(view, head * head_rows + static_cast<int>(r), row.data());
        for (std::size_t c = 0; c < latent; ++c) turned[c * nope + r] = row[c];
      }
      for (std::size_t c = 0; c < latent; ++c) {
        query.store(head * spec.latent_dim + static_cast<int>(c), &turned[c * nope], out);
      }
      for (int r = 0; r < spec.value_dim; ++r) {
        decode_row(view, head * head_rows + spec.nope_dim + r, row.data());
        value.store(head * spec.value_dim + r, row.data(), out);
      }
    }
    embed_q = query.view(out);
    unembed_out = value.view(out);
  };
  loader.convert(std::move(conversion));
}

}  // namespace sluice::model
