// AVX-512: weight codes as unsigned bytes, in the order that the activations are laid out for (ActivationLayout). One
// struct per packing; a chunk is kPlanes vectors of 32 codes. Included by matmul_avx512_int16.cc only.
#pragma once

#include "kernels/matmul_avx2_bytes.h"

namespace sluice::kernels {
namespace {

/// Packings whose codes do not straddle bytes: a byte holds 8 / bits consecutive codes. A chunk is one 32-byte load.
struct BytePacked {
  static constexpr int kChunkBytes = 32;
  static constexpr int kOffset = 0;  // what unpack() adds to the integer weights, so that none is negative
  static constexpr bool kAffine = true;
};

template <int kCodeBits>
struct AffineBytes : BytePacked {
  static constexpr int kBits = kCodeBits;
  static constexpr int kPlanes = 8 / kBits;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) { byte_planes<kBits>(chunk, planes); }
};

/// E2M1 codes become twice their value, plus the offset.
struct Fp4Bytes : BytePacked {
  static constexpr bool kAffine = false;
  static constexpr int kOffset = kFp4Offset;
  static constexpr int kBits = 4;
  static constexpr int kPlanes = 2;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) { fp4_planes(chunk, planes); }
};

/// 3, 5 and 6 bits: a chunk is 32 codes. One permutation brings the bytes of eight codes into a 64-bit lane, one
/// instruction takes eight bits from any eight places of it, one mask drops what belongs to the next code.
template <int kCodeBits>
struct AffineStreamBytes {
  static constexpr bool kAffine = true;
  static constexpr int kOffset = 0;
  static constexpr int kBits = kCodeBits;
  static constexpr int kPlanes = 1;
  static constexpr int kChunkBytes = 4 * kBits;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    const __m256i lanes = _mm256_permutexvar_epi8(_mm256_load_si256(&kTables.bytes), chunk);
    const __m256i codes = _mm256_multishift_epi64_epi8(_mm256_load_si256(&kTables.shifts), lanes);
    planes[0] = _mm256_and_si256(codes, _mm256_set1_epi8((1 << kBits) - 1));
  }

 private:
  struct Tables {
    __m256i bytes;
    __m256i shifts;
  };
  static constexpr Tables make_tables() {
    uint64_t bytes[4] = {};
    uint64_t shift = 0;
    for (int i = 0; i < 8; ++i) {
      for (int lane = 0; lane < 4; ++lane) {
        bytes[lane] |= static_cast<uint64_t>(lane * kBits + (i < kBits ? i : kBits - 1)) << (8 * i);
      }
      shift |= static_cast<uint64_t>(i * kBits) << (8 * i);
    }
    const auto vector = [](uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
      return __m256i{static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c),
                     static_cast<long long>(d)};
    };
    return {vector(bytes[0], bytes[1], bytes[2], bytes[3]), vector(shift, shift, shift, shift)};
  }
  static constexpr Tables kTables = make_tables();
};

}  // namespace
}  // namespace sluice::kernels
