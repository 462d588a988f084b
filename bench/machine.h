// What the machine itself can do: the yardsticks of the benchmarks.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

#include "kernels/thread_team.h"

namespace sluice::kernels {

/// Seconds of one run: the fastest of several, since other users of the machine can only slow it down.
inline double fastest(int repetitions, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

/// Tells the compiler that somebody needs the value.
template <typename T>
void keep(T value) {
  asm volatile("" : : "r"(value));
}

#if defined(__x86_64__)
#define BENCH_AVX2 __attribute__((target("avx2")))
#else
#define BENCH_AVX2
#endif

/// Adds up memory as fast as it comes; wide vectors, so that the loads themselves are no limit.
BENCH_AVX2 inline void read_lines(const std::byte* at, std::int64_t lines) {
  using Words = std::uint64_t __attribute__((vector_size(32)));
  Words sums[4] = {};
  for (std::int64_t line = 0; line < lines; line += 2) {
    for (int i = 0; i < 4; ++i) {
      Words words;
      std::memcpy(&words, at + line * 64 + i * 32, sizeof words);
      sums[i] += words;
    }
  }
  for (const Words& sum : sums) keep(sum[0] + sum[1] + sum[2] + sum[3]);
}

/// Reads the memory and does nothing else with it.
inline void read_all(ThreadTeam& team, std::span<const std::byte> memory) {
  team.parallel_for(static_cast<std::int64_t>(memory.size() / 64), 4096,
                    [&](std::int64_t begin, std::int64_t end) { read_lines(memory.data() + begin * 64, end - begin); });
}

#if defined(__x86_64__)
constexpr int kChains = 8;  // of paddd: more than enough to hide its latency

/// pmaddwd and paddd from registers: the peak that a product of int16 numbers can reach with AVX2.
BENCH_AVX2 inline void multiply_registers(int rounds) {
  const __m256i factor = _mm256_set1_epi16(3);
  __m256i acc[kChains] = {};
  for (int i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (__m256i& a : acc) {
      __m256i product;
      asm volatile("vpmaddwd %1, %1, %0" : "=x"(product) : "x"(factor));  // the compiler would compute it once
      a = _mm256_add_epi32(a, product);
    }
  }
  for (const __m256i& a : acc) keep(_mm256_extract_epi32(a, 0));
}

inline double pmaddwd_peak(int repetitions) {
  if (__builtin_cpu_supports("avx2") == 0) return 0;
  constexpr int kRounds = 1 << 18;
  return 16.0 * kChains * kRounds / fastest(repetitions, [] { multiply_registers(kRounds); });
}
#else
inline double pmaddwd_peak(int) { return 0; }
#endif

}  // namespace sluice::kernels
