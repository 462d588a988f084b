#include "kernels/format.h"

#include <fmt/core.h>

namespace sluice::kernels {
namespace {

bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

std::string scale_problem(const Format& f) {
  return is_float(f.scale_type) ? "" : fmt::format("scales are {}, expected F32, F16 or BF16", name_of(f.scale_type));
}

/// What is wrong with bits, group and scale type of a mode, columns aside.
std::string mode_problem(const Format& f) {
  const int bits = f.bits;
  switch (f.mode) {
    case Mode::plain:
      return is_float(f.scale_type) ? ""
                                    : fmt::format("elements are {}, expected F32, F16 or BF16", name_of(f.scale_type));
    case Mode::affine:
      if (!(bits == 2 || bits == 3 || bits == 4 || bits == 5 || bits == 6 || bits == 8)) {
        return fmt::format("affine with {} bits, expected 2, 3, 4, 5, 6 or 8", bits);
      }
      if (!(f.group == 32 || f.group == 64 || f.group == 128)) {
        return fmt::format("affine with group size {}, expected 32, 64 or 128", f.group);
      }
      return scale_problem(f);
    case Mode::symmetric:
      if (!(bits == 4 && (f.group == 32 || f.group == 64 || f.group == 128))) {
        return fmt::format("symmetric with {} bits and group size {}, expected 4 and 32, 64 or 128", bits, f.group);
      }
      return scale_problem(f);
    case Mode::mxfp4:
      return bits == 4 && f.group == 32
                 ? ""
                 : fmt::format("mxfp4 with {} bits and group {}, expected 4 and 32", bits, f.group);
    case Mode::nvfp4:
      return bits == 4 && f.group == 16
                 ? ""
                 : fmt::format("nvfp4 with {} bits and group {}, expected 4 and 16", bits, f.group);
    case Mode::mxfp8:
      return bits == 8 && f.group == 32
                 ? ""
                 : fmt::format("mxfp8 with {} bits and group {}, expected 8 and 32", bits, f.group);
    case Mode::fp8_block:
      if (!(bits == 8 && f.group == 128)) {
        return fmt::format("fp8 with {} bits and blocks of {}, expected 8 and 128", bits, f.group);
      }
      return scale_problem(f);
  }
  return "unknown quantization mode";
}

std::string_view float_name(DType type) { return type == DType::f32 ? "f32" : type == DType::f16 ? "f16" : "bf16"; }

}  // namespace

std::string format_problem(const Format& format, std::int64_t cols) {
  std::string problem = mode_problem(format);
  if (problem.empty() && format.group != 0 && cols % format.group != 0 && format.mode != Mode::fp8_block) {
    problem = fmt::format("{} columns are not a multiple of the group size {}", cols, format.group);
  }
  return problem;
}

std::string to_string(const Format& format) {
  switch (format.mode) {
    case Mode::plain:
      return std::string(float_name(format.scale_type));
    case Mode::affine:
      return fmt::format("affine {}-bit g{} {}", format.bits, format.group, float_name(format.scale_type));
    case Mode::symmetric:
      return fmt::format("symmetric {}-bit g{} {}", format.bits, format.group, float_name(format.scale_type));
    case Mode::mxfp4:
      return "mxfp4";
    case Mode::nvfp4:
      return "nvfp4";
    case Mode::mxfp8:
      return "mxfp8";
    case Mode::fp8_block:
      return fmt::format("fp8 128x128 {}", float_name(format.scale_type));
  }
  return "?";
}

}  // namespace sluice::kernels
