// How tokens and factors are laid out for brgemm, C += A B with rows of A and B as brgemm wants them.
//
// float32: B is plain, so rows of tokens and tiles of a factor are used where they lie.
// bfloat16: B is packed in pairs of rows (VNNI), (K / 2, N, 2); A is rounded from float32.
#pragma once

#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>

#include "vectors.h"

namespace crosshead {

using at::BFloat16;

// Tokens (B, H, N, channels) where they lie; channels are next to each other.
template <class T>
struct Rows {
  T* data;
  int64_t batch, head, token;

  T* at(int64_t b, int64_t h, int64_t t) const { return data + b * batch + h * head + t * token; }
};

// Asks for the tokens of the next tile while this one is worked on, a few lines of memory at each step: the hardware
// does not foresee the jumps from head to head, and would not carry as many lines at once.
template <class T>
class Ahead {
 public:
  Ahead(const Rows<const T>& rows, int64_t b, int64_t heads, int64_t first, int64_t n, int64_t channels, int64_t steps)
      : at_(rows.at(b, 0, first)), head_(rows.head), token_(rows.token), heads_(n > 0 ? heads : 0), n_(n),
        channels_(channels) {
    const int64_t lines = heads_ * std::max<int64_t>(n, 0) * ((channels + kLine - 1) / kLine);
    per_step_ = (lines + steps - 1) / steps;
  }

  void step() {
    for (int64_t i = 0; i < per_step_ && h_ < heads_; ++i) {
      _mm_prefetch(at_ + h_ * head_ + t_ * token_ + c_, _MM_HINT_T1);
      if ((c_ += kLine) < channels_) continue;
      c_ = 0;
      if (++t_ < n_) continue;
      t_ = 0;
      ++h_;
    }
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T);
  const T* at_;
  int64_t head_, token_, heads_, n_, channels_, per_step_, h_ = 0, t_ = 0, c_ = 0;
};

// The same for two operands.
template <class T>
struct AheadOfBoth {
  Ahead<T> first, second;

  void step() {
    first.step();
    second.step();
  }
};

// The leading dimension of A and the number of rows of B that brgemm is given for a sum over `depth`.
template <class T>
int64_t padded_depth(int64_t depth) {
  return std::is_same_v<T, float> ? depth : rounded_up(depth, 2);
}

template <class T>
inline void multiply(
    int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, const T* b, int64_t b_row, float* c,
    int64_t c_row, bool add) {
  at::native::cpublas::brgemm(
      rows, columns, padded_depth<T>(depth), a_row, b_row, c_row, add, a, b, c, !std::is_same_v<T, float>);
}

// (rows, columns) to (columns, rows) of 32-bit numbers.
inline void transpose(const float* from, int64_t from_row, float* to, int64_t to_row, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      const float* block = from + i * from_row + j;
      float* turned = to + j * to_row + i;
      if (rows - i >= kLanes && columns - j >= kLanes) {
        transpose_block<true>(block, from_row, turned, to_row, kLanes, kLanes);
      } else {
        transpose_block<false>(block, from_row, turned, to_row, rows - i, columns - j);
      }
    }
  }
}

// n tokens as the columns of B: (channels, width), zero from column n on.
inline void tokens_as_columns(
    const float* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, float* b) {
  transpose(tokens, token, b, width, n, channels);
  if (n < width) {
    for (int64_t c = 0; c < channels; ++c) std::fill(b + c * width + n, b + (c + 1) * width, 0.0f);
  }
}

inline void tokens_as_columns(
    const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, BFloat16* b) {
  const bool pairs = channels % 2 == 0 && token % 2 == 0 && reinterpret_cast<uintptr_t>(tokens) % 4 == 0;
  if (pairs) {  // a pair of channels moves as one number of 32 bits
    tokens_as_columns(
        reinterpret_cast<const float*>(tokens), token / 2, n, channels / 2, width, reinterpret_cast<float*>(b));
    return;
  }
  std::fill(b, b + padded_depth<BFloat16>(channels) * width, BFloat16(0));
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t c = 0; c < channels; ++c) b[(c / 2 * width + t) * 2 + c % 2] = tokens[t * token + c];
  }
}

// n tokens as the rows of B: where to find them, and the leading dimension.
template <class T>
struct AsRows {
  const T* data;
  int64_t row;
};

inline AsRows<float> tokens_as_rows(const float* tokens, int64_t token, int64_t, int64_t, float*) {
  return {tokens, token};
}

inline __m512i interleaved(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

inline AsRows<BFloat16> tokens_as_rows(
    const BFloat16* tokens, int64_t token, int64_t n, int64_t channels, BFloat16* room) {
  for (int64_t t = 0; t < n; t += 2) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      const Lanes lanes = first_lanes(channels - c);
      const BFloat16* p = tokens + t * token + c;
      const __m256i even = _mm256_maskz_loadu_epi16(lanes, p);
      const __m256i odd = t + 1 < n ? _mm256_maskz_loadu_epi16(lanes, p + token) : _mm256_setzero_si256();
      _mm512_mask_storeu_epi32(room + (t / 2 * channels + c) * 2, lanes, interleaved(even, odd));
    }
  }
  return {room, channels};
}

// A tile of a factor, (rows, width), as A; `n` of its columns count.
inline const float* factor_as_a(const float* tile, int64_t, int64_t, int64_t, float*) { return tile; }

inline const BFloat16* factor_as_a(const float* tile, int64_t rows, int64_t width, int64_t n, BFloat16* room) {
  // Beyond n the factor is zero, or is met by zeros; the width is even.
  for (int64_t l = 0; l < rows; ++l) {
    for (int64_t t = 0; t < std::min(rounded_up(n, kLanes), width); t += kLanes) {
      _mm256_storeu_si256(
          reinterpret_cast<__m256i*>(room + l * width + t), to_bfloat16(load(tile + l * width + t)));
    }
  }
  return room;
}

// The same as B.
inline const float* factor_as_b(const float* tile, int64_t, int64_t, float*) { return tile; }

inline const BFloat16* factor_as_b(const float* tile, int64_t rows, int64_t width, BFloat16* room) {
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

// (channels, width) to n tokens of `channels`, rounded. `room` holds a block of sixteen tokens.
inline void columns_to_tokens(
    const float* columns, int64_t width, int64_t n, int64_t channels, float* tokens, int64_t token, float*) {
  transpose(columns, width, tokens, token, channels, n);
}

inline void columns_to_tokens(
    const float* columns, int64_t width, int64_t n, int64_t channels, BFloat16* tokens, int64_t token, float* room) {
  for (int64_t t = 0; t < n; t += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, n - t);
    transpose(columns + t, width, room, channels, channels, count);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        const Lanes lanes = first_lanes(channels - c);
        const Vector x = _mm512_maskz_loadu_ps(lanes, room + i * channels + c);
        _mm256_mask_storeu_epi16(tokens + (t + i) * token + c, lanes, to_bfloat16(x));
      }
    }
  }
}

}  // namespace crosshead
