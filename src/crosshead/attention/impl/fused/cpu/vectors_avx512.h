// The words of vectors.h in AVX-512: sixteen floats, thirty-two registers, a mask register for lanes.
#pragma once

#include <c10/util/BFloat16.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "checks.h"

namespace crosshead {

using Vector = __m512;
using Lanes = __mmask16;

constexpr int kLanes = 16;
// Heads whose blocks of two vectors, one sum each, stay in registers.
constexpr int kHeadsAtOnce = 8;
// Columns of the narrowest tile.
constexpr int kNarrowest = 32;

inline Lanes first_lanes(int64_t count) {
  return count >= kLanes ? Lanes(0xffff) : count <= 0 ? Lanes(0) : Lanes((1u << count) - 1);
}
inline Lanes true_lanes(const bool* p, int64_t count) {
  touched(p, std::min<int64_t>(count, kLanes));
  const __m128i bytes = _mm_maskz_loadu_epi8(first_lanes(count), p);
  return _mm_test_epi8_mask(bytes, bytes);
}
inline Lanes above(Vector x, Vector y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ); }
inline bool any(Lanes lanes) { return lanes != 0; }

inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
inline Vector load(const float* p, int64_t count) {
  touched(p, std::min<int64_t>(count, kLanes) * 4);
  return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
inline void store(float* p, Vector x) { _mm512_storeu_ps(p, x); }
inline void store(float* p, int64_t count, Vector x) {
  touched(p, std::min<int64_t>(count, kLanes) * 4);
  _mm512_mask_storeu_ps(p, first_lanes(count), x);
}

// A vector that is used several times.
inline Vector held(Vector x) { return x; }

inline Vector all(float x) { return _mm512_set1_ps(x); }
inline Vector zero() { return _mm512_setzero_ps(); }
inline Vector add(Vector x, Vector y) { return _mm512_add_ps(x, y); }
inline Vector sub(Vector x, Vector y) { return _mm512_sub_ps(x, y); }
inline Vector mul(Vector x, Vector y) { return _mm512_mul_ps(x, y); }
inline Vector fmadd(Vector x, Vector y, Vector z) { return _mm512_fmadd_ps(x, y, z); }
inline Vector fmsub(Vector x, Vector y, Vector z) { return _mm512_fmsub_ps(x, y, z); }
inline Vector max(Vector x, Vector y) { return _mm512_max_ps(x, y); }
inline Vector where(Lanes lanes, Vector x) { return _mm512_maskz_mov_ps(lanes, x); }
inline Vector add_where(Lanes lanes, Vector x, Vector y) { return _mm512_mask_add_ps(x, lanes, x, y); }
inline Vector max_where(Lanes lanes, Vector x, Vector y) { return _mm512_mask_max_ps(x, lanes, x, y); }
inline Vector inverse_where(Lanes lanes, Vector x) { return _mm512_maskz_div_ps(lanes, all(1.0f), x); }
inline float sum_of(Vector x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Vector x) { return _mm512_reduce_max_ps(x); }

inline Vector rounded(Vector x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x times two to the power of `whole`, a whole number.
inline Vector scaled(Vector x, Vector whole) { return _mm512_scalef_ps(x, whole); }

// Rounds to the nearest bfloat16, ties to even: the upper half of each lane. The carry would make a number of some NaN.
inline __m512i bfloat16_bits(Vector x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const Lanes numbers = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_mask_mov_epi32(_mm512_set1_epi32(0x7fc00000), numbers, rounded);
}
inline __m256i to_bfloat16(Vector x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bfloat16_bits(x), 16)); }
inline void store(at::BFloat16* p, int64_t count, Vector x) {
  touched(p, std::min<int64_t>(count, kLanes) * 2);
  _mm256_mask_storeu_epi16(p, first_lanes(count), to_bfloat16(x));
}

// (rows, columns) to (columns, rows) of 32-bit numbers, at most sixteen of each: pairs of rows are interleaved by
// ones, twos, fours and eights. `Full` promises sixteen of each.
template <bool Full>
inline void transpose_block(
    const float* from, int64_t from_row, float* to, int64_t to_row, int64_t rows, int64_t columns) {
  __m512 a[kLanes], b[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if constexpr (Full) {
      a[i] = load(from + i * from_row);
    } else {
      a[i] = i < rows ? load(from + i * from_row, columns) : zero();
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const __m512d low = _mm512_castps_pd(b[i + j]), high = _mm512_castps_pd(b[i + j + 2]);
      a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < kLanes; i += 8) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      b[i + j] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0x88);
      b[i + j + 4] = _mm512_shuffle_f32x4(a[i + j], a[i + j + 4], 0xdd);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    const __m512 even = _mm512_shuffle_f32x4(b[j], b[j + 8], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(b[j], b[j + 8], 0xdd);
    if constexpr (Full) {
      store(to + j * to_row, even);
      store(to + (j + 8) * to_row, odd);
    } else {
      if (j < columns) store(to + j * to_row, rows, even);
      if (j + 8 < columns) store(to + (j + 8) * to_row, rows, odd);
    }
  }
}

}  // namespace crosshead
