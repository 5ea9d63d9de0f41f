// The words of vectors.h in AVX2 with FMA: eight floats, sixteen registers, a vector of ones and zeros for lanes.
#pragma once

#include <c10/util/BFloat16.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "checks.h"

namespace crosshead {

using Vector = __m256;

// All bits of a lane, or none.
struct Lanes {
  __m256 bits;
};

constexpr int kLanes = 8;
// Heads whose blocks of two vectors, one sum each, stay in registers.
constexpr int kHeadsAtOnce = 4;
// Columns of the narrowest tile: with fewer, the products lost more than the second cache gave.
constexpr int kNarrowest = 64;

inline Lanes first_lanes(int64_t count) {
  const __m256i numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int within = int(std::clamp<int64_t>(count, 0, kLanes));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(within), numbers))};
}
inline Lanes true_lanes(const bool* p, int64_t count) {
  int64_t bytes = 0;
  if (count >= kLanes) {
    std::memcpy(&bytes, p, kLanes);
  } else {
    std::memcpy(&bytes, p, count);
  }
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()))};
}
inline Lanes above(Vector x, Vector y) { return {_mm256_cmp_ps(x, y, _CMP_GT_OQ)}; }
inline bool any(Lanes lanes) { return _mm256_movemask_ps(lanes.bits) != 0; }

inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
inline Vector load(const float* p, int64_t count) {
  touched(p, std::min<int64_t>(count, kLanes) * 4);
  return _mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(count).bits));
}
inline void store(float* p, Vector x) { _mm256_storeu_ps(p, x); }
inline void store(float* p, int64_t count, Vector x) {
  touched(p, std::min<int64_t>(count, kLanes) * 4);
  _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(count).bits), x);
}

// A vector that is used several times: else the compiler reads it from memory for each use.
inline Vector held(Vector x) {
  asm("" : "+x"(x));
  return x;
}

inline Vector all(float x) { return _mm256_set1_ps(x); }
inline Vector zero() { return _mm256_setzero_ps(); }
inline Vector add(Vector x, Vector y) { return _mm256_add_ps(x, y); }
inline Vector sub(Vector x, Vector y) { return _mm256_sub_ps(x, y); }
inline Vector mul(Vector x, Vector y) { return _mm256_mul_ps(x, y); }
inline Vector fmadd(Vector x, Vector y, Vector z) { return _mm256_fmadd_ps(x, y, z); }
inline Vector fmsub(Vector x, Vector y, Vector z) { return _mm256_fmsub_ps(x, y, z); }
inline Vector max(Vector x, Vector y) { return _mm256_max_ps(x, y); }
inline Vector where(Lanes lanes, Vector x) { return _mm256_and_ps(lanes.bits, x); }
inline Vector add_where(Lanes lanes, Vector x, Vector y) { return _mm256_blendv_ps(x, add(x, y), lanes.bits); }
inline Vector max_where(Lanes lanes, Vector x, Vector y) { return _mm256_blendv_ps(x, max(x, y), lanes.bits); }
inline Vector inverse_where(Lanes lanes, Vector x) { return where(lanes, _mm256_div_ps(all(1.0f), x)); }
inline float sum_of(Vector x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
inline float largest_of(Vector x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

inline Vector rounded(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// x times two to the power of `whole`, a whole number, for x of about one. In two halves, so that each power is a
// normal float and only the last product is rounded.
inline Vector scaled(Vector x, Vector whole) {
  whole = _mm256_min_ps(all(130.0f), max(all(-160.0f), whole));  // all beyond is 0 or infinite; NaN is in x too
  const __m256i power = _mm256_cvtps_epi32(whole), half = _mm256_srai_epi32(power, 1);
  const auto two_to = [](__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  };
  return mul(mul(x, two_to(half)), two_to(_mm256_sub_epi32(power, half)));
}

// Rounds to the nearest bfloat16, ties to even: the upper half of each lane. The carry would make a number of some NaN.
inline __m256i bfloat16_bits(Vector x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const Vector numbers = _mm256_cmp_ps(x, x, _CMP_ORD_Q);
  const Vector nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
  return _mm256_castps_si256(_mm256_blendv_ps(nan, _mm256_castsi256_ps(rounded), numbers));
}
inline Vector as_bfloat16(Vector x) {
  return _mm256_castsi256_ps(_mm256_and_si256(bfloat16_bits(x), _mm256_set1_epi32(int(0xffff0000))));
}
inline void store(at::BFloat16* p, int64_t count, Vector x) {
  const __m256i halves = _mm256_srli_epi32(bfloat16_bits(x), 16);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  if (count >= kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
  } else {
    std::memcpy(static_cast<void*>(p), &packed, count * 2);
  }
}
inline Vector widened(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vector load(const at::BFloat16* p) { return widened(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vector load(const at::BFloat16* p, int64_t count) {
  if (count >= kLanes) return load(p);
  __m128i bits = _mm_setzero_si128();
  std::memcpy(&bits, p, count * 2);
  return widened(bits);
}

// (rows, columns) to (columns, rows), at most eight of each: pairs of rows are interleaved by ones, twos and fours.
// `Full` promises eight of each.
template <bool Full, class X>
inline void transpose_block(
    const X* from, int64_t from_row, float* to, int64_t to_row, int64_t rows, int64_t columns) {
  Vector a[kLanes], b[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) {
    if constexpr (Full) {
      a[i] = load(from + i * from_row);
    } else {
      a[i] = i < rows ? load(from + i * from_row, columns) : zero();
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < kLanes; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0x44);
      a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0xee);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const Vector low = _mm256_permute2f128_ps(a[j], a[j + 4], 0x20);
    const Vector high = _mm256_permute2f128_ps(a[j], a[j + 4], 0x31);
    if constexpr (Full) {
      store(to + j * to_row, low);
      store(to + (j + 4) * to_row, high);
    } else {
      if (j < columns) store(to + j * to_row, rows, low);
      if (j + 4 < columns) store(to + (j + 4) * to_row, rows, high);
    }
  }
}

}  // namespace crosshead
