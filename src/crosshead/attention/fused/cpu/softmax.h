// The two softmaxes of a tile of raw logits: over the keys, in two passes, and over the landmarks.
#pragma once

#include "tiles.h"

namespace crosshead {

// Shift and sum of e^(logit - shift) of every row (head, landmark), the sum kept lane by lane.
struct RowSums {
  float* shift;  // (heads, rows)
  float* sum;    // (heads, rows, kLanes)

  static int64_t size(int64_t heads, int64_t rows) { return heads * rows * (1 + kLanes); }
  RowSums(float* room, int64_t heads, int64_t rows) : shift(room), sum(room + heads * rows) {}

  void clear(int64_t heads, int64_t rows) const {
    std::fill(shift, shift + heads * rows, kNothing);
    std::fill(sum, sum + heads * rows * kLanes, 0.0f);
  }
};

// Moves the shift of a row to its largest logit in this tile.
inline void raise_shift(
    const Tile& x, const Mix& p, const Columns& columns, int64_t g, int64_t l, float* shift, float* sum) {
  Vector largest = all(kNothing);
  for (int64_t t = 0; t < columns.count; t += kBlock) {
    Vector y[1][kWidth] = {};
    p.add<1>(x.at(0, l, t), x.stride(), g, y);
#pragma GCC unroll 2
    for (int v = 0; v < kWidth; ++v) {
      const Lanes lanes = columns.lanes(t + v * kLanes);
      largest = _mm512_mask_max_ps(largest, lanes, largest, y[0][v]);
    }
  }
  const float raised = _mm512_reduce_max_ps(largest);
  if (raised <= *shift) return;
  store(sum, _mm512_mul_ps(load(sum), exp(all(*shift - raised))));
  *shift = raised;
}

// First pass over the keys: adds the tile to the sums of its rows. Half as many heads at a time as elsewhere, for
// the registers also hold sums and maxima.
template <class Ahead>
inline void add_to_row_sums(
    const Tile& x, const Mix& p, const Columns& columns, const RowSums& sums, Ahead&& ahead) {
  for (int64_t l = 0; l < x.rows; ++l) {
    for_heads<4>(x.heads, [&](auto size, int64_t g) {
      constexpr int G = decltype(size)::value;
      float* shift[G];
#pragma GCC unroll 8
      for (int i = 0; i < G; ++i) shift[i] = sums.shift + (g + i) * x.rows + l;
      for (bool raised = false;; raised = true) {
        Vector sum[G], above[G];
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
          sum[i] = zero();
          above[i] = all(kNothing);
        }
        for (int64_t t = 0; t < columns.count; t += kBlock) {
          ahead.step();
          Vector y[G][kWidth] = {};
          p.add<G>(x.at(0, l, t), x.stride(), g, y);
#pragma GCC unroll 2
          for (int v = 0; v < kWidth; ++v) {
            const Lanes lanes = columns.lanes(t + v * kLanes);
#pragma GCC unroll 8
            for (int i = 0; i < G; ++i) {
              // Subtracted from what is rounded already, so that the largest logit gives 0, however large it is.
              const Vector below = _mm512_sub_ps(y[i][v], all(*shift[i]));
              above[i] = _mm512_mask_max_ps(above[i], lanes, above[i], below);
              sum[i] = _mm512_mask_add_ps(sum[i], lanes, sum[i], exp(below));
            }
          }
        }
        bool high = false;
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) high |= _mm512_cmp_ps_mask(above[i], all(kHeadroom), _CMP_GT_OQ) != 0;
        const bool again = high && !raised;  // a second time only NaN could be high, and it may stay
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
          float* total = sums.sum + ((g + i) * x.rows + l) * kLanes;
          if (again) {
            raise_shift(x, p, columns, g + i, l, shift[i], total);
          } else {
            store(total, _mm512_add_ps(load(total), sum[i]));
          }
        }
        if (!again) break;
      }
    });
  }
}

// What turns logits of the key factor into weights, e^(logit - shift) * inverse, row by row, (heads, rows) each. One
// logarithm of the sum would do, but near 16 a float is a millionth wide, and so would be every weight's error.
struct RowScales {
  float *shift, *inverse;
};

// Adds up the sums of one row over several parts, each a RowSums. A row without keys gets no weight.
inline void scale_row(const float* first, int64_t part, int64_t parts, int64_t row, int64_t rows, RowScales to) {
  float largest = kNothing;
  for (int64_t i = 0; i < parts; ++i) largest = std::max(largest, first[i * part + row]);
  float total = 0;
  for (int64_t i = 0; i < parts; ++i) {
    const float* p = first + i * part;
    total += _mm512_reduce_add_ps(load(p + rows + row * kLanes)) * std::exp(p[row] - largest);
  }
  to.shift[row] = largest;
  to.inverse[row] = total == 0 ? 0.0f : 1 / total;  // NaN stays NaN
}

// Second pass over the keys: the weights of one block of columns, all heads, into `block`.
inline void key_weights(
    const Tile& x, const Mix& p, const Columns& columns, const RowScales& scales, int64_t l, int64_t t,
    float* block) {
  const Lanes lanes[kWidth] = {columns.lanes(t), columns.lanes(t + kLanes)};
  mix_block(
      p, x.at(0, l, t), x.stride(),
      [&](int64_t g, int v, Vector y) {
        const int64_t row = g * x.rows + l;
        const Vector weight = _mm512_mul_ps(exp(_mm512_sub_ps(y, all(scales.shift[row]))), all(scales.inverse[row]));
        store(block + g * kBlock + v * kLanes, where(lanes[v], weight));
      });
}

// The mixed key factor in place of the raw logits. `block` holds one block of all heads.
template <class Ahead>
inline void key_factor(
    const Tile& x, const Mix& p, const Mix& w, const Columns& columns, const RowScales& scales, float* block,
    Ahead&& ahead) {
  for (int64_t l = 0; l < x.rows; ++l) {
    for (int64_t t = 0; t < columns.count; t += kBlock) {
      ahead.step();
      key_weights(x, p, columns, scales, l, t, block);
      mix_block(
          w, block, kBlock,
          [&](int64_t g, int v, Vector y) { store(x.at(g, l, t) + v * kLanes, y); });
    }
  }
}

// The weights of the landmarks, softmax over the rows that hold a token, in place of the raw logits in `x` or, where
// these are still needed, in `out`; then mixed by `w`, unless that is null. `room` holds four blocks of all heads.
//
// The shift of a column is its first logit. Where a later one rises far above it, which is rare, the shift is moved
// and what was written before is scaled.
template <class Ahead>
inline void landmark_factor(
    const Tile& x, const Mix& p, const Mix* w, const Columns& columns, const bool* landmark_mask, const Tile& out,
    float* room, Ahead&& ahead) {
  const int64_t block = x.heads * kBlock;
  float *shift = room + block, *sum = room + 2 * block, *scaled = room + 3 * block;
  const auto at = [](float* of, int64_t g, int v) { return of + g * kBlock + v * kLanes; };
  for (int64_t t = 0; t < columns.count; t += kBlock) {
    int64_t first = -1;  // row that holds a token
    std::fill(sum, sum + block, 0.0f);
    for (int64_t l = 0; l < x.rows; ++l) {
      ahead.step();
      if (landmark_mask != nullptr && !landmark_mask[l]) {
        for (int64_t g = 0; g < x.heads; ++g) {
          for (int v = 0; v < kWidth; ++v) store(out.at(g, l, t) + v * kLanes, zero());
        }
        continue;
      }
      const Block raw(x, l, t, room);
      if (first < 0) {
        first = l;
        mix_block(
            p, raw.data, raw.stride,
            [&](int64_t g, int v, Vector y) { store(at(shift, g, v), y); });
      }
      mix_block(
          p, raw.data, raw.stride,
          [&](int64_t g, int v, Vector y) {
            y = _mm512_sub_ps(y, load(at(shift, g, v)));
            const Lanes high = _mm512_cmp_ps_mask(y, all(kHeadroom), _CMP_GT_OQ);
            if (high != 0) {
              const Vector rise = where(high, y), smaller = exp(_mm512_sub_ps(zero(), rise));
              for (int64_t i = first; i < l; ++i) {
                float* before = out.at(g, i, t) + v * kLanes;
                store(before, _mm512_mul_ps(load(before), smaller));
              }
              store(at(sum, g, v), _mm512_mul_ps(load(at(sum, g, v)), smaller));
              store(at(shift, g, v), _mm512_add_ps(load(at(shift, g, v)), rise));
              y = _mm512_sub_ps(y, rise);
            }
            y = exp(y);
            store(at(sum, g, v), _mm512_add_ps(load(at(sum, g, v)), y));
            store(out.at(g, l, t) + v * kLanes, y);
          });
    }
    for (int64_t g = 0; g < x.heads; ++g) {
      for (int v = 0; v < kWidth; ++v) {
        const Lanes any = first < 0 ? Lanes(0) : columns.lanes(t + v * kLanes);
        store(at(sum, g, v), _mm512_maskz_div_ps(any, all(1.0f), load(at(sum, g, v))));
      }
    }
    for (int64_t l = 0; l < x.rows; ++l) {
      for (int64_t g = 0; g < x.heads; ++g) {
        for (int v = 0; v < kWidth; ++v) {
          const Vector weight = _mm512_mul_ps(load(out.at(g, l, t) + v * kLanes), load(at(sum, g, v)));
          store(w == nullptr ? out.at(g, l, t) + v * kLanes : at(scaled, g, v), weight);
        }
      }
      if (w == nullptr) continue;
      mix_block(
          *w, scaled, kBlock,
          [&](int64_t g, int v, Vector y) { store(out.at(g, l, t) + v * kLanes, y); });
    }
  }
}

}  // namespace crosshead
