// How tokens and factors are laid out for brgemm, C += A B with rows of A and B as brgemm wants them.
//
// float32: B is plain, so rows of tokens and tiles of a factor are used where they lie.
// bfloat16: packed for the processor's own products, bfloat16_pairs.h, or widened to float32, bfloat16_widened.h.
#pragma once

#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>

#include "checks.h"
#include "vectors.h"

namespace crosshead {

using at::BFloat16;

// Tokens (B, groups, H, N, channels) where they lie; channels are next to each other. A sample b of the passes is one
// group of one sample of the batch.
template <class T>
struct Rows {
  T* data;
  int64_t groups, batch, group, head, token;

  T* at(int64_t b, int64_t h, int64_t t) const {
    return data + b / groups * batch + b % groups * group + h * head + t * token;
  }
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

// Rows of B that brgemm takes as one, and to a multiple of which it wants the depth of the sum padded.
template <class X>
constexpr int64_t kTogether = std::is_same_v<X, float> ? 1 : 2;

// The leading dimension of A and the number of rows of B that brgemm is given for a sum over `depth`.
template <class X>
int64_t padded_depth(int64_t depth) {
  return rounded_up(depth, kTogether<X>);
}

template <class X>
inline void multiply(
    int64_t rows, int64_t columns, int64_t depth, const X* a, int64_t a_row, const X* b, int64_t b_row, float* c,
    int64_t c_row, bool add) {
  constexpr int64_t together = kTogether<X>;
  const int64_t padded = padded_depth<X>(depth);
  touched_rows(a, rows, a_row, padded);
  touched_rows(b, padded / together, b_row * together, columns * together);
  touched_rows(c, rows, c_row, columns);
  at::native::cpublas::brgemm(rows, columns, padded, a_row, b_row, c_row, add, a, b, c, together > 1);
}

// (rows, columns) to (columns, rows) of 32-bit numbers.
template <class X>
inline void transpose(const X* from, int64_t from_row, float* to, int64_t to_row, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      const X* block = from + i * from_row + j;
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
template <class X>
inline void transpose_tokens(const X* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, float* b) {
  transpose(tokens, token, b, width, n, channels);
  if (n < width) {
    for (int64_t c = 0; c < channels; ++c) std::fill(b + c * width + n, b + (c + 1) * width, 0.0f);
  }
}

// Rows of B: where to find them, and the leading dimension.
template <class X>
struct AsRows {
  const X* data;
  int64_t row;
};

// What brgemm is given in place of tokens of type T, and of tiles of a factor that meets them: numbers of type Operand,
// in `room` where kCopies.
template <class T>
struct Packing;

template <>
struct Packing<float> {
  using Operand = float;
  static constexpr bool kCopies = false;

  // n tokens as the columns of B, (channels, width), zero from column n on; always a copy.
  static void tokens_as_columns(
      const float* tokens, int64_t token, int64_t n, int64_t channels, int64_t width, float* b) {
    transpose_tokens(tokens, token, n, channels, width, b);
  }

  // n tokens as the rows of B.
  static AsRows<float> tokens_as_rows(const float* tokens, int64_t token, int64_t, int64_t, float*) {
    return {tokens, token};
  }

  // A tile of a factor, (rows, width), as A; `n` of its columns count.
  static const float* factor_as_a(const float* tile, int64_t, int64_t, int64_t, float*) { return tile; }

  // The same as B.
  static const float* factor_as_b(const float* tile, int64_t, int64_t, float*) { return tile; }
};

template <class T>
using Operand = typename Packing<T>::Operand;

// (channels, width) to n tokens of `channels`, rounded. `room` holds a block of tokens, one for each lane.
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
        store(tokens + (t + i) * token + c, channels - c, load(room + i * channels + c, channels - c));
      }
    }
  }
}

}  // namespace crosshead

#ifdef __AVX512F__
#include "bfloat16_pairs.h"
#else
#include "bfloat16_widened.h"
#endif
