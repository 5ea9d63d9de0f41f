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
      largest = max_where(lanes, largest, y[0][v]);
    }
  }
  const float raised = largest_of(largest);
  if (raised <= *shift) return;
  store(sum, mul(load(sum), exp(all(*shift - raised))));
  *shift = raised;
}

// First pass over the keys: adds the tile to the sums of its rows. Half as many heads at a time as elsewhere, for
// the registers also hold sums and maxima.
template <class Ahead>
inline void add_to_row_sums(
    const Tile& x, const Mix& p, const Columns& columns, const RowSums& sums, Ahead&& ahead) {
  for (int64_t l = 0; l < x.rows; ++l) {
    for_heads<kHeadsAtOnce / 2>(x.heads, [&](auto size, int64_t g) {
      constexpr int G = decltype(size)::value;
      float* shift[G];
#pragma GCC unroll 8
      for (int i = 0; i < G; ++i) shift[i] = sums.shift + (g + i) * x.rows + l;
      for (bool raised = false;; raised = true) {
        Vector sum[G], highest[G];
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
          sum[i] = zero();
          highest[i] = all(kNothing);
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
              const Vector below = sub(y[i][v], all(*shift[i]));
              highest[i] = max_where(lanes, highest[i], below);
              sum[i] = add_where(lanes, sum[i], exp(below));
            }
          }
        }
        bool high = false;
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) high |= any(above(highest[i], all(kHeadroom)));
        const bool again = high && !raised;  // a second time only NaN could be high, and it may stay
#pragma GCC unroll 8
        for (int i = 0; i < G; ++i) {
          float* total = sums.sum + ((g + i) * x.rows + l) * kLanes;
          if (again) {
            raise_shift(x, p, columns, g + i, l, shift[i], total);
          } else {
            store(total, add(load(total), sum[i]));
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
    total += sum_of(load(p + rows + row * kLanes)) * std::exp(p[row] - largest);
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
        const Vector weight = mul(exp(sub(y, all(scales.shift[row]))), all(scales.inverse[row]));
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
            y = sub(y, load(at(shift, g, v)));
            const Lanes high = above(y, all(kHeadroom));
            if (any(high)) {
              const Vector rise = where(high, y), smaller = exp(sub(zero(), rise));
              for (int64_t i = first; i < l; ++i) {
                float* before = out.at(g, i, t) + v * kLanes;
                store(before, mul(load(before), smaller));
              }
              store(at(sum, g, v), mul(load(at(sum, g, v)), smaller));
              store(at(shift, g, v), add(load(at(shift, g, v)), rise));
              y = sub(y, rise);
            }
            y = exp(y);
            store(at(sum, g, v), add(load(at(sum, g, v)), y));
            store(out.at(g, l, t) + v * kLanes, y);
          });
    }
    for (int64_t g = 0; g < x.heads; ++g) {
      for (int v = 0; v < kWidth; ++v) {
        const Lanes lanes = first < 0 ? first_lanes(0) : columns.lanes(t + v * kLanes);
        store(at(sum, g, v), inverse_where(lanes, load(at(sum, g, v))));
      }
    }
    for (int64_t l = 0; l < x.rows; ++l) {
      for (int64_t g = 0; g < x.heads; ++g) {
        for (int v = 0; v < kWidth; ++v) {
          const Vector weight = mul(load(out.at(g, l, t) + v * kLanes), load(at(sum, g, v)));
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
