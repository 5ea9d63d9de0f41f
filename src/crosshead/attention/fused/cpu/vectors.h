// Vectors of sixteen floats: what AVX-512 gives, in the few words that the kernels need.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace crosshead {

using Vector = __m512;
using Lanes = __mmask16;

constexpr int kLanes = 16;
// Columns of a tile that are worked on at a time: two vectors, so that a coefficient is loaded once for both.
constexpr int kWidth = 2;
constexpr int kBlock = kWidth * kLanes;

inline int64_t rounded_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vector x) { _mm512_storeu_ps(p, x); }
inline Vector all(float x) { return _mm512_set1_ps(x); }
inline Vector zero() { return _mm512_setzero_ps(); }
inline Vector where(Lanes lanes, Vector x) { return _mm512_maskz_mov_ps(lanes, x); }
inline Lanes first_lanes(int64_t count) {
  return count >= kLanes ? Lanes(0xffff) : count <= 0 ? Lanes(0) : Lanes((1u << count) - 1);
}

// e^x to about one unit in the last place, 0 for x below -104, whatever its size: 2^whole times a minimax polynomial
// of the rest.
inline Vector exp(Vector x) {
  const Vector log2_e = all(0x1.715476p+0f);
  x = _mm512_max_ps(all(-200.0f), x);  // far below, the rest would be the rounding of the whole; NaN stays NaN
  const Vector whole = _mm512_roundscale_ps(_mm512_mul_ps(x, log2_e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vector f = _mm512_fmsub_ps(x, log2_e, whole);
  Vector y = all(0x1.41d332p-13f);
  y = _mm512_fmadd_ps(y, f, all(0x1.5f456ap-10f));
  y = _mm512_fmadd_ps(y, f, all(0x1.3b2dbcp-7f));
  y = _mm512_fmadd_ps(y, f, all(0x1.c6aed4p-5f));
  y = _mm512_fmadd_ps(y, f, all(0x1.ebfbdap-3f));
  y = _mm512_fmadd_ps(y, f, all(0x1.62e430p-1f));
  y = _mm512_fmadd_ps(y, f, all(1.0f));
  return _mm512_scalef_ps(y, whole);
}

// Rounds to the nearest bfloat16, ties to even: the upper half of each lane. The carry would make a number of some NaN.
inline __m512i bfloat16_bits(Vector x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const Lanes numbers = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_mask_mov_epi32(_mm512_set1_epi32(0x7fc00000), numbers, rounded);
}
inline __m256i to_bfloat16(Vector x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bfloat16_bits(x), 16)); }

// (rows, columns) to (columns, rows) of 32-bit numbers, at most sixteen of each: pairs of rows are interleaved by
// ones, twos, fours and eights. `Full` promises sixteen of each.
template <bool Full>
inline void transpose_block(
    const float* from, int64_t from_row, float* to, int64_t to_row, int64_t rows, int64_t columns) {
  const Lanes in = first_lanes(columns), out = first_lanes(rows);
  __m512 a[kLanes], b[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if constexpr (Full) {
      a[i] = load(from + i * from_row);
    } else {
      a[i] = i < rows ? _mm512_maskz_loadu_ps(in, from + i * from_row) : zero();
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
      if (j < columns) _mm512_mask_storeu_ps(to + j * to_row, out, even);
      if (j + 8 < columns) _mm512_mask_storeu_ps(to + (j + 8) * to_row, out, odd);
    }
  }
}

}  // namespace crosshead
