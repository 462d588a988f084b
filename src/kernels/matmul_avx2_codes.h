// AVX2: weight codes as integers of 16 bits, or of 8 where kSplit, in the order that the activations are laid out for
// (ActivationLayout). One struct per packing. Included by matmul_avx2_int16.cc only.
#pragma once

#include "kernels/matmul_avx2.h"

namespace sluice::kernels {
namespace {

/// Packings whose codes do not straddle 16-bit lanes: a lane holds 16 / bits consecutive codes, so that one shift and
/// one mask give a plane of them. A chunk is one 32-byte load.
struct LanePacked {
  static constexpr bool kSplit = false;
  static constexpr int kOffset = 0;  // what unpack() adds to the integer weights, so that none is negative
  static constexpr int kChunkBytes = 32;
  static constexpr int kReadBeyond = 0;  // bytes that load() reads behind a chunk

  static __m256i load(const std::byte* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
  /// The first `bytes` of a chunk, a multiple of 8; the rest is zero and not read.
  static __m256i load_part(const std::byte* at, int bytes) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(at), lane_mask(bytes / 4));
  }
};

template <int kCodeBits>
struct AffineLanes : LanePacked {
  static constexpr bool kAffine = true;
  static constexpr int kBits = kCodeBits;
  static constexpr int kPlanes = 16 / kBits;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    const __m256i mask = _mm256_set1_epi16((1 << kBits) - 1);
    planes[0] = _mm256_and_si256(chunk, mask);
    for (int p = 1; p + 1 < kPlanes; ++p) planes[p] = _mm256_and_si256(_mm256_srli_epi16(chunk, p * kBits), mask);
    planes[kPlanes - 1] = _mm256_srli_epi16(chunk, 16 - kBits);
  }
};

/// Twice the value of every E2M1 code among 32 bytes, plus `offset`.
template <int kOffset>
__m256i doubled_e2m1(__m256i codes) {
  constexpr int o = kOffset;
  const __m256i values = _mm256_broadcastsi128_si256(_mm_setr_epi8(
      o, o + 1, o + 2, o + 3, o + 4, o + 6, o + 8, o + 12, o, o - 1, o - 2, o - 3, o - 4, o - 6, o - 8, o - 12));
  return _mm256_shuffle_epi8(values, codes);
}

/// E2M1 codes as unsigned bytes: the even ones, then the odd ones.
struct Fp4Bytes : LanePacked {
  static constexpr bool kAffine = false;
  static constexpr bool kSplit = true;
  static constexpr int kOffset = 12;
  static constexpr int kBits = 4;
  static constexpr int kPlanes = 2;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    planes[0] = doubled_e2m1<kOffset>(_mm256_and_si256(chunk, nibble));
    planes[1] = doubled_e2m1<kOffset>(_mm256_and_si256(_mm256_srli_epi16(chunk, 4), nibble));
  }
};

/// The same as signed words, for tiles. A chunk is 16 bytes.
struct Fp4Words {
  static constexpr int kBits = 4;
  static constexpr int kPlanes = Fp4Bytes::kPlanes;
  static constexpr int kChunkBytes = 16;
  static constexpr int kReadBeyond = 0;

  static __m256i load(const std::byte* at) {
    return _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static __m256i load_part(const std::byte* at, int bytes) {
    return bytes >= kChunkBytes ? load(at) : LanePacked::load_part(at, bytes);
  }
  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    __m256i bytes[kPlanes];
    const __m256i nibble = _mm256_set1_epi8(15);
    bytes[0] = doubled_e2m1<0>(_mm256_and_si256(chunk, nibble));
    bytes[1] = doubled_e2m1<0>(_mm256_and_si256(_mm256_srli_epi16(chunk, 4), nibble));
    for (int p = 0; p < kPlanes; ++p) planes[p] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes[p]));
  }
};

/// 3, 5 and 6 bits: codes straddle bytes. A chunk is 16 codes; a byte shuffle brings the two bytes of a code into its
/// lane, a multiplication shifts it to the top of the lane, and one shift for all brings it down.
template <int kCodeBits>
struct AffineStream {
  static constexpr bool kAffine = true;
  static constexpr bool kSplit = false;
  static constexpr int kOffset = 0;
  static constexpr int kBits = kCodeBits;
  static constexpr int kPlanes = 1;
  static constexpr int kChunkBytes = 2 * kBits;
  static constexpr int kReadBeyond = 16 - kChunkBytes;

  static __m256i load(const std::byte* at) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  /// Reads at most 2 bytes behind the chunk, which a MatrixView permits.
  static __m256i load_part(const std::byte* at, int) {
    if constexpr (kBits == 3) return _mm256_broadcastsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    const __m128i three_words = _mm_setr_epi32(-1, -1, -1, 0);
    return _mm256_broadcastsi128_si256(_mm_maskload_epi32(reinterpret_cast<const int*>(at), three_words));
  }

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    const __m256i words = _mm256_shuffle_epi8(chunk, _mm256_load_si256(&kTables.bytes));
    planes[0] = _mm256_srli_epi16(_mm256_mullo_epi16(words, _mm256_load_si256(&kTables.factors)), 16 - kBits);
  }

 private:
  struct Tables {
    __m256i bytes;
    __m256i factors;
  };
  static constexpr Tables make_tables() {
    uint64_t bytes[4] = {};
    uint64_t factors[4] = {};
    for (int i = 0; i < 16; ++i) {
      const auto bit = static_cast<uint64_t>(i * kBits);
      const int at = i % 4 * 16;
      bytes[i / 4] |= (bit / 8 | (bit / 8 + 1) << 8) << at;
      factors[i / 4] |= (uint64_t{1} << (16 - kBits - bit % 8)) << at;
    }
    const auto vector = [](const uint64_t(&v)[4]) {
      return __m256i{static_cast<long long>(v[0]), static_cast<long long>(v[1]), static_cast<long long>(v[2]),
                     static_cast<long long>(v[3])};
    };
    return {vector(bytes), vector(factors)};
  }
  static constexpr Tables kTables = make_tables();
};

}  // namespace
}  // namespace sluice::kernels
