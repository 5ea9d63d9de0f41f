// bfloat16 as the products of AVX-512 and AMX take it: B is packed in pairs of rows (VNNI), (K / 2, N, 2); A is rounded
// from float32.
#pragma once

#include "operands.h"

namespace crosshead {

inline __m512i interleaved(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

template <>
struct Packing<BFloat16> {
  using Operand = BFloat16;
  static constexpr bool kCopies = true;

  static void tokens_as_columns(
      const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, BFloat16* b) {
    const bool pairs = channels % 2 == 0 && token % 2 == 0 && reinterpret_cast<uintptr_t>(tokens) % 4 == 0;
    if (pairs) {  // a pair of channels moves as one number of 32 bits
      transpose_tokens(
          reinterpret_cast<const float*>(tokens), token / 2, n, channels / 2, width, reinterpret_cast<float*>(b));
      return;
    }
    std::fill(b, b + padded_depth<BFloat16>(channels) * width, BFloat16(0));
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t c = 0; c < channels; ++c) b[(c / 2 * width + t) * 2 + c % 2] = tokens[t * token + c];
    }
  }

  static AsRows<BFloat16> tokens_as_rows(
      const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, BFloat16* room) {
    for (int64_t t = 0; t < n; t += 2) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Lanes lanes = first_lanes(channels - c);
        const int64_t count = std::min<int64_t>(kLanes, channels - c);
        const BFloat16* p = tokens + t * token + c;
        BFloat16* to = room + (t / 2 * channels + c) * 2;
        touched_rows(p, t + 1 < n ? 2 : 1, token, count);
        touched(to, count * 4);
        const __m256i even = _mm256_maskz_loadu_epi16(lanes, p);
        const __m256i odd = t + 1 < n ? _mm256_maskz_loadu_epi16(lanes, p + token) : _mm256_setzero_si256();
        _mm512_mask_storeu_epi32(to, lanes, interleaved(even, odd));
      }
    }
    return {room, channels};
  }

  static const BFloat16* factor_as_a(const float* tile, int64_t rows, int64_t width, int64_t n, BFloat16* room) {
    // Beyond n the factor is zero, or is met by zeros; the width is even.
    for (int64_t l = 0; l < rows; ++l) {
      for (int64_t t = 0; t < std::min(rounded_up(n, kLanes), width); t += kLanes) {
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(room + l * width + t), to_bfloat16(load(tile + l * width + t)));
      }
    }
    return room;
  }

  static const BFloat16* factor_as_b(const float* tile, int64_t rows, int64_t width, BFloat16* room) {
    const __m512i upper = _mm512_set1_epi32(int(0xffff0000));
    for (int64_t l = 0; l < rows; l += 2) {
      for (int64_t t = 0; t < width; t += kLanes) {
        const __m512i even = _mm512_srli_epi32(bfloat16_bits(load(tile + l * width + t)), 16);
        const __m512i odd = l + 1 < rows ? bfloat16_bits(load(tile + (l + 1) * width + t)) : _mm512_setzero_si512();
        _mm512_storeu_si512(room + (l / 2 * width + t) * 2, _mm512_or_si512(even, _mm512_and_si512(odd, upper)));
      }
    }
    return room;
  }

  // What a row of a tile loses where it is rounded.
  static void write_remainder(const float* row, int64_t count, float* remainder) {
    const __m512i upper = _mm512_set1_epi32(int(0xffff0000));
    for (int64_t t = 0; t < count; t += kLanes) {
      const Vector x = load(row + t);
      store(remainder + t, sub(x, _mm512_castsi512_ps(_mm512_and_si512(bfloat16_bits(x), upper))));
    }
  }
};

}  // namespace crosshead
