// AVX2: weight codes as integers of 16 bits, or of 8 where kSplit, in the order that the activations are laid out for
// (ActivationLayout). One struct per packing. kOverlapped: whether the end of a group runs beside the next one, see
// multiply_one. (Measured: it is worth the instructions except where unpacking is cheap and takes few registers.)
// Included by matmul_avx2_tile.h only.
#pragma once

#include "kernels/matmul_avx2_bytes.h"

namespace sluice::kernels {
namespace {

/// Packings whose codes do not straddle 16-bit lanes: a lane holds 16 / bits consecutive codes, so that one shift and
/// one mask give a plane of them. A chunk is one 32-byte load.
struct LanePacked {
  static constexpr bool kSplit = false;
  static constexpr bool kOverlapped = false;
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

/// Packings whose codes do not straddle bytes, as bytes: a byte holds 8 / bits consecutive codes.
struct BytePacked : LanePacked {
  static constexpr bool kSplit = true;
  static constexpr bool kOverlapped = true;
};

/// Two bits, whose sums stay small, and which take half as many planes of bytes as of words.
struct Affine2Bytes : BytePacked {
  static constexpr bool kAffine = true;
  static constexpr int kBits = 2;
  static constexpr int kPlanes = 4;
  static constexpr int kLargest = 3;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) { byte_planes<kBits>(chunk, planes); }
};

/// Twice the values of E2M1 codes, plus the offset.
struct Fp4Bytes : BytePacked {
  static constexpr bool kAffine = false;
  static constexpr int kOffset = kFp4Offset;
  static constexpr int kBits = 4;
  static constexpr int kPlanes = 2;
  static constexpr int kLargest = 24;

  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) { fp4_planes(chunk, planes); }
};

/// Packings of bytes as signed words, for tiles. A chunk is 16 bytes.
template <typename Bytes>
struct Widened {
  static constexpr int kBits = Bytes::kBits;
  static constexpr int kPlanes = Bytes::kPlanes;
  static constexpr int kChunkBytes = 16;
  static constexpr int kReadBeyond = 0;

  static __m256i load(const std::byte* at) {
    return _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static __m256i load_part(const std::byte* at, int bytes) {
    return bytes >= kChunkBytes ? load(at) : LanePacked::load_part(at, bytes);
  }
  static void unpack(__m256i chunk, __m256i (&planes)[kPlanes]) {
    Bytes::unpack(chunk, planes);
    for (__m256i& plane : planes) {
      const __m256i signed_bytes = _mm256_sub_epi8(plane, _mm256_set1_epi8(Bytes::kOffset));
      plane = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(signed_bytes));
    }
  }
};

/// 3, 5 and 6 bits: codes straddle bytes. A chunk is 16 codes; a byte shuffle brings the two bytes of a code into its
/// lane, a multiplication shifts it to the top of the lane, and one shift for all brings it down.
template <int kCodeBits>
struct AffineStream {
  static constexpr bool kAffine = true;
  static constexpr bool kSplit = false;
  static constexpr bool kOverlapped = true;
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

/// A packing and the columns of its groups.
template <typename Codes, int kGroup>
struct Packing {};

/// Calls use(Packing) for the packing of `format`.
template <typename Use>
void for_packing(const Format& format, const Use& use) {
  const auto affine = [&]<typename Codes>(Codes) {
    if (format.group == 32) return use(Packing<Codes, 32>());
    if (format.group == 64) return use(Packing<Codes, 64>());
    use(Packing<Codes, 128>());
  };
  if (format.mode == Mode::mxfp4) return use(Packing<Fp4Bytes, 32>());
  if (format.mode == Mode::nvfp4) return use(Packing<Fp4Bytes, 16>());
  switch (format.bits) {
    case 2:
      return affine(Affine2Bytes());
    case 3:
      return affine(AffineStream<3>());
    case 4:
      return affine(AffineLanes<4>());
    case 5:
      return affine(AffineStream<5>());
    case 6:
      return affine(AffineStream<6>());
    default:
      return affine(AffineLanes<8>());
  }
}

}  // namespace
}  // namespace sluice::kernels
