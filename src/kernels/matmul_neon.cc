// AArch64 NEON: the table of matrix kernels, with the canonical arithmetic of docs/arithmetic.md.
//
// One path for any number of inputs: a tile of a row block is unpacked into the L1 cache, and every input passes over
// it. Integer weights become 16-bit numbers in the order that the activations are laid out for; decoded ones f32.
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "kernels/matmul_dequantize.h"
#include "kernels/matmul_kernels.h"

namespace sluice::kernels {
namespace {

/// Columns of a tile: with 8 rows 8 KiB of 16-bit weights or 16 KiB of f32. A multiple of every group.
constexpr int kTileColumns = 512;

// --- Activations ----------------------------------------------------------------------------------------------------

ActivationLayout layout(const Format& format, int) {
  const bool bytes = format.bits == 2 || format.bits == 4;  // then a byte holds 8 / bits consecutive codes
  return {format.group, bytes ? 8 / format.bits : 1};
}

void quantize(const float* x, int cols, ActivationLayout layout, int16_t* codes, float* scales, float* sums) {
  const int group = layout.group;
  const int plane = group / layout.planes;
  for (int g = 0; g < cols / group; ++g, x += group, codes += group) {
    // As integers, the magnitudes of floats are in order, with infinity and NaN above all numbers.
    uint32x4_t largest4 = vdupq_n_u32(0);
    for (int i = 0; i < group; i += 4) {
      largest4 = vmaxq_u32(largest4, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7FFFFFFF)));
    }
    const uint32_t largest_bits = vmaxvq_u32(largest4);
    if (largest_bits == 0 || largest_bits >= 0x7F800000U) {
      memset(codes, 0, static_cast<size_t>(group) * sizeof(int16_t));
      scales[g] = largest_bits == 0 ? 0.0F : __builtin_nanf("");
      sums[g] = 0.0F;
      continue;
    }
    float largest = 0.0F;
    memcpy(&largest, &largest_bits, sizeof largest);
    const float up = largest < 0x1p-96F ? 0x1p96F : 1.0F;
    const float inverse = kActivationMax / (largest * up);
    int16_t natural[128];
    int32x4_t sum4 = vdupq_n_s32(0);
    for (int i = 0; i < group; i += 4) {
      const int32x4_t rounded = vcvtnq_s32_f32(vmulq_n_f32(vmulq_n_f32(vld1q_f32(x + i), up), inverse));
      sum4 = vaddq_s32(sum4, rounded);
      vst1_s16(natural + i, vmovn_s32(rounded));
    }
    scales[g] = largest / kActivationMax;
    sums[g] = static_cast<float>(vaddvq_s32(sum4));
    for (int p = 0; p < layout.planes; ++p) {
      for (int j = 0; j < plane; ++j) codes[p * plane + j] = natural[j * layout.planes + p];
    }
  }
}

// --- Integer weights ------------------------------------------------------------------------------------------------

/// Eight bytes of codes: kPlanes vectors of eight integer weights, consecutive ones in different planes.
template <int kCodeBits>
struct AffineBytes {
  static constexpr int kPlanes = 8 / kCodeBits;
  static constexpr int kChunkBytes = 8;

  static void unpack(const std::byte* at, int16x8_t (&planes)[kPlanes]) {
    const uint8x8_t bytes = vld1_u8(reinterpret_cast<const uint8_t*>(at));
    const uint8x8_t mask = vdup_n_u8((1 << kCodeBits) - 1);
    for (int p = 0; p < kPlanes; ++p) {
      const uint8x8_t codes = vand_u8(vshl_u8(bytes, vdup_n_s8(static_cast<int8_t>(-p * kCodeBits))), mask);
      planes[p] = vreinterpretq_s16_u16(vmovl_u8(codes));
    }
  }
};

/// E2M1 codes become twice their value.
struct Fp4Bytes {
  static constexpr int kPlanes = 2;
  static constexpr int kChunkBytes = 8;

  static void unpack(const std::byte* at, int16x8_t (&planes)[kPlanes]) {
    const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const uint8x8_t bytes = vld1_u8(reinterpret_cast<const uint8_t*>(at));
    planes[0] = vmovl_s8(vqtbl1_s8(vld1q_s8(doubled), vand_u8(bytes, vdup_n_u8(15))));
    planes[1] = vmovl_s8(vqtbl1_s8(vld1q_s8(doubled), vshr_n_u8(bytes, 4)));
  }
};

/// 3, 5 and 6 bits: eight codes are kCodeBits bytes. A byte shuffle brings the two bytes of a code into its lane.
template <int kCodeBits>
struct AffineStream {
  static constexpr int kPlanes = 1;
  static constexpr int kChunkBytes = kCodeBits;

  static void unpack(const std::byte* at, int16x8_t (&planes)[kPlanes]) {
    uint8_t pair[16];
    int16_t down[8];
    for (int i = 0; i < 8; ++i) {
      pair[2 * i] = static_cast<uint8_t>(i * kCodeBits / 8);
      pair[2 * i + 1] = static_cast<uint8_t>(i * kCodeBits / 8 + 1);
      down[i] = static_cast<int16_t>(-(i * kCodeBits % 8));
    }
    uint8_t bytes[16] = {};
    memcpy(bytes, at, kCodeBits);
    const uint16x8_t words = vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(bytes), vld1q_u8(pair)));
    const uint16x8_t codes = vandq_u16(vshlq_u16(words, vld1q_s16(down)), vdupq_n_u16((1 << kCodeBits) - 1));
    planes[0] = vreinterpretq_s16_u16(codes);
  }
};

/// Columns [first, first + count) of one row, whole groups in the order of the layout.
template <typename Codes>
void unpack_row(const std::byte* codes, int first, int count, int group, int bits, int16_t* to) {
  const std::byte* at = codes + int64_t{first} * bits / 8;
  const int plane = group / Codes::kPlanes;
  for (int begin = 0; begin < count; begin += group, to += group) {
    for (int column = 0; column < plane; column += 8, at += Codes::kChunkBytes) {
      int16x8_t planes[Codes::kPlanes];
      Codes::unpack(at, planes);
      for (int p = 0; p < Codes::kPlanes; ++p) vst1q_s16(to + p * plane + column, planes[p]);
    }
  }
}

using UnpackRow = void(const std::byte* codes, int first, int count, int group, int bits, int16_t* to);

UnpackRow* unpack_function(const Format& format) {
  if (!is_affine(format)) return unpack_row<Fp4Bytes>;
  switch (format.bits) {
    case 2:
      return unpack_row<AffineBytes<2>>;
    case 3:
      return unpack_row<AffineStream<3>>;
    case 4:
      return unpack_row<AffineBytes<4>>;
    case 5:
      return unpack_row<AffineStream<5>>;
    case 6:
      return unpack_row<AffineStream<6>>;
    default:
      return unpack_row<AffineBytes<8>>;
  }
}

/// Eight numbers, one per row of a block.
struct Rows {
  float32x4_t low, high;
};
Rows load_rows(const float* at) { return {vld1q_f32(at), vld1q_f32(at + 4)}; }

/// y of rows [row, row + rows), padded to eight by repeating the last; padding is not stored.
void store_rows(float* y, int rows, Rows values) {
  float all[kRowBlock];
  vst1q_f32(all, values.low);
  vst1q_f32(all + 4, values.high);
  memcpy(y, all, static_cast<size_t>(rows) * sizeof(float));
}

int64_t block_row(int row, int rows, int r) { return row + (r < rows ? r : rows - 1); }

void int16_block(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  const Format& format = weights.format;
  const int group = format.group;
  const bool affine = is_affine(format);
  UnpackRow* const unpack = unpack_function(format);
  int16_t tile[kRowBlock][kTileColumns];
  float scales[kTileColumns / 16][kRowBlock];
  float biases[kTileColumns / 16][kRowBlock];
  Rows sums[kMaxInputs];
  for (int i = 0; i < inputs; ++i) sums[i] = {vdupq_n_f32(0), vdupq_n_f32(0)};

  for (int begin = 0; begin < weights.cols; begin += kTileColumns) {
    const int count = weights.cols - begin < kTileColumns ? weights.cols - begin : kTileColumns;
    const int first_group = begin / group;
    for (int r = 0; r < kRowBlock; ++r) {
      const int64_t source = block_row(row, rows, r);
      unpack(weights.codes + source * weights.row_stride, begin, count, group, format.bits, tile[r]);
      for (int g = 0; g < count / group; ++g) {
        // Integer fp4 weights are doubled, so their scale is halved.
        scales[g][r] = group_scale(weights, static_cast<int>(source), first_group + g) * (affine ? 1.0F : 0.5F);
        if (affine) biases[g][r] = group_bias(weights, static_cast<int>(source), first_group + g);
      }
    }
    for (int i = 0; i < inputs; ++i) {
      for (int g = 0; g < count / group; ++g) {
        const int16_t* codes = x[i].codes + begin + g * group;
        int32_t products[kRowBlock];
        for (int r = 0; r < kRowBlock; ++r) {
          const int16_t* w = tile[r] + g * group;
          int32x4_t low = vdupq_n_s32(0);
          int32x4_t high = vdupq_n_s32(0);
          for (int j = 0; j < group; j += 8) {
            const int16x8_t wv = vld1q_s16(w + j);
            const int16x8_t xv = vld1q_s16(codes + j);
            low = vmlal_s16(low, vget_low_s16(wv), vget_low_s16(xv));
            high = vmlal_high_s16(high, wv, xv);
          }
          products[r] = vaddvq_s32(vaddq_s32(low, high));
        }
        const Rows scale = load_rows(scales[g]);
        Rows term = {vmulq_f32(scale.low, vcvtq_f32_s32(vld1q_s32(products))),
                     vmulq_f32(scale.high, vcvtq_f32_s32(vld1q_s32(products + 4)))};
        if (affine) {
          const Rows bias = load_rows(biases[g]);
          const float32x4_t x_sum = vdupq_n_f32(x[i].sums[first_group + g]);
          term = {vfmaq_f32(term.low, bias.low, x_sum), vfmaq_f32(term.high, bias.high, x_sum)};
        }
        const float32x4_t x_scale = vdupq_n_f32(x[i].scales[first_group + g]);
        sums[i] = {vfmaq_f32(sums[i].low, x_scale, term.low), vfmaq_f32(sums[i].high, x_scale, term.high)};
      }
    }
  }
  for (int i = 0; i < inputs; ++i) store_rows(y[i], rows, sums[i]);
}

// --- Decoded weights ------------------------------------------------------------------------------------------------

/// Eight E4M3 codes: sign-extended and shifted into place they are f16 numbers too small by 2^8.
Rows decode_e4m3(const std::byte* at) {
  const int16x8_t codes = vmovl_s8(vld1_s8(reinterpret_cast<const int8_t*>(at)));
  const uint16x8_t half = vandq_u16(vreinterpretq_u16_s16(vshlq_n_s16(codes, 7)), vdupq_n_u16(0xBFFF));
  const float16x8_t value = vreinterpretq_f16_u16(half);
  return {vmulq_n_f32(vcvt_f32_f16(vget_low_f16(value)), 256.0F), vmulq_n_f32(vcvt_high_f32_f16(value), 256.0F)};
}

/// Rounds to bf16, to nearest even. No NaN comes here but the plain one.
float32x4_t round_to_bf16(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
  return vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xFFFF0000U)));
}

Rows decode_plain(const std::byte* at, DType type) {
  if (type == DType::f32) return load_rows(reinterpret_cast<const float*>(at));
  const uint16x8_t half = vld1q_u16(reinterpret_cast<const uint16_t*>(at));
  if (type == DType::f16) {
    const float16x8_t value = vreinterpretq_f16_u16(half);
    return {vcvt_f32_f16(vget_low_f16(value)), vcvt_high_f32_f16(value)};
  }
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(half), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(half, 16))};
}

/// Columns [first, first + count) of one row. Affine and fp4 weights come here on the exact path only, which need not
/// be fast, and so do the last columns of a row that are fewer than eight.
void decode(const MatrixView& weights, int row, int first, int count, float* w) {
  const Format& format = weights.format;
  const bool fp8 = format.mode == Mode::mxfp8 || format.mode == Mode::fp8_block;
  int column = first;
  if (format.mode == Mode::plain || fp8) {
    const std::byte* codes = weights.codes + row * weights.row_stride;
    const auto element = static_cast<int64_t>(format.bits / 8);
    float scale = 1.0F;
    for (; column + 8 <= first + count; column += 8) {
      Rows eight = fp8 ? decode_e4m3(codes + column) : decode_plain(codes + column * element, format.scale_type);
      if (fp8) {
        if (column == first || column % format.group == 0) {
          scale = group_scale(weights, row, column / format.group);
          if (scale != scale) scale = __builtin_nanf("");  // whose payload survives the rounding
        }
        eight = {vmulq_n_f32(eight.low, scale), vmulq_n_f32(eight.high, scale)};
      }
      if (format.mode == Mode::fp8_block) eight = {round_to_bf16(eight.low), round_to_bf16(eight.high)};
      vst1q_f32(w + (column - first), eight.low);
      vst1q_f32(w + (column - first) + 4, eight.high);
    }
  }
  dequantize(weights, row, column, first + count - column, w + (column - first));
}

void f32_block(const MatrixView& weights, int row, int rows, const InputRow* x, float* const* y, int inputs) {
  float tile[kRowBlock][kTileColumns];
  Rows sums[kMaxInputs][kRowBlock];
  for (int i = 0; i < inputs; ++i) {
    for (Rows& sum : sums[i]) sum = {vdupq_n_f32(0), vdupq_n_f32(0)};
  }
  for (int begin = 0; begin < weights.cols; begin += kTileColumns) {
    const int count = weights.cols - begin < kTileColumns ? weights.cols - begin : kTileColumns;
    const int whole = (count + 7) / 8 * 8;
    for (int r = 0; r < rows; ++r) {
      decode(weights, row + r, begin, count, tile[r]);
      for (int j = count; j < whole; ++j) tile[r][j] = 0.0F;
    }
    for (int i = 0; i < inputs; ++i) {
      float last[8] = {};  // the last columns, filled up with zeros
      memcpy(last, x[i].x + begin + count / 8 * 8, static_cast<size_t>(count % 8) * sizeof(float));
      for (int r = 0; r < rows; ++r) {
        Rows sum = sums[i][r];
        for (int j = 0; j < whole; j += 8) {
          const Rows xv = load_rows(j + 8 <= count ? x[i].x + begin + j : last);
          const Rows wv = load_rows(tile[r] + j);
          sum = {vfmaq_f32(sum.low, wv.low, xv.low), vfmaq_f32(sum.high, wv.high, xv.high)};
        }
        sums[i][r] = sum;
      }
    }
  }
  for (int i = 0; i < inputs; ++i) {
    for (int r = 0; r < rows; ++r) {
      const float32x4_t four = vaddq_f32(sums[i][r].low, sums[i][r].high);
      const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
      y[i][r] = vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
    }
  }
}

void weighted_add(float weight, const float* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), vld1q_f32(x + i), weight));
  for (; i < n; ++i) y[i] = __builtin_fmaf(weight, x[i], y[i]);
}

}  // namespace

const MatmulKernels kMatmulNeon = {layout, quantize, int16_block, f32_block, decode, weighted_add};

}  // namespace sluice::kernels
