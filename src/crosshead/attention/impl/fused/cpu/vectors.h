// Vectors of floats, in the few words that the kernels need. vectors_avx512.h and vectors_avx2.h say what each word is
// in one set of instructions; nothing above this file knows which one it is compiled for.
//
// Lanes says which lanes of a vector take part. A load or store with a count touches that many places.
#pragma once

#ifdef __AVX512F__
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

namespace crosshead {

// Columns of a tile that are worked on at a time: two vectors, so that a coefficient is loaded once for both.
constexpr int kWidth = 2;
constexpr int kBlock = kWidth * kLanes;

inline int64_t rounded_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// e^x to about one unit in the last place, 0 for x below -104, whatever its size: 2^whole times a minimax polynomial
// of the rest.
inline Vector exp(Vector x) {
  const Vector log2_e = all(0x1.715476p+0f);
  x = max(all(-200.0f), x);  // far below, the rest would be the rounding of the whole; NaN stays NaN
  const Vector whole = rounded(mul(x, log2_e));
  const Vector f = fmsub(x, log2_e, whole);
  Vector y = all(0x1.41d332p-13f);
  y = fmadd(y, f, all(0x1.5f456ap-10f));
  y = fmadd(y, f, all(0x1.3b2dbcp-7f));
  y = fmadd(y, f, all(0x1.c6aed4p-5f));
  y = fmadd(y, f, all(0x1.ebfbdap-3f));
  y = fmadd(y, f, all(0x1.62e430p-1f));
  y = fmadd(y, f, all(1.0f));
  return scaled(y, whole);
}

}  // namespace crosshead
