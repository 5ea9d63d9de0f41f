// A tile of one factor, (heads, landmarks, tokens): its logits, its softmax, and the talk between its heads.
//
// Tokens run along the lanes, so the softmax over landmarks is vertical and that over keys is gathered lane by
// lane. The scale of the logits is part of the coefficients that mix them.
#pragma once

#include <ATen/native/CPUBlas.h>

#include <cmath>
#include <type_traits>

#include "operands.h"
#include "vectors.h"

namespace crosshead {

// Room between heads, so that their rows do not fall into the same lines of the first cache.
constexpr int64_t kHeadGap = 2 * kLanes;
// No logit is as small; finite, so that differences are never NaN.
constexpr float kNothing = -1e30f;
// How far above its shift a row may rise before the shift is moved: e^40 summed over 2^60 tokens is a float.
constexpr float kHeadroom = 40.0f;

struct Tile {
  float* data;
  int64_t heads, rows, width;

  int64_t stride() const { return rows * width + kHeadGap; }
  float* at(int64_t h, int64_t l, int64_t t = 0) const { return data + h * stride() + l * width + t; }
  static int64_t size(int64_t heads, int64_t rows, int64_t width) { return heads * (rows * width + kHeadGap); }
};

// y_g = sum_h coefficients[h, g] x_h; without coefficients y_g = diagonal x_g.
struct Mix {
  const float* coefficients;
  float diagonal;
  int64_t heads;

  template <int G>
  __attribute__((always_inline)) void add(const float* x, int64_t stride, int64_t g, Vector (&y)[G][kWidth]) const {
    if (coefficients == nullptr) {
#pragma GCC unroll 8
      for (int i = 0; i < G; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kWidth; ++v) {
          y[i][v] = fmadd(all(diagonal), load(x + (g + i) * stride + v * kLanes), y[i][v]);
        }
      }
      return;
    }
    // A copy that nothing else can point to: it stays in registers, where y would be stored at each step.
    Vector sum[G][kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < G; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kWidth; ++v) sum[i][v] = y[i][v];
    }
    for (int64_t h = 0; h < heads; ++h) {
      const Vector left = held(load(x + h * stride)), right = held(load(x + h * stride + kLanes));
      const float* of_h = coefficients + h * heads + g;
#pragma GCC unroll 8
      for (int i = 0; i < G; ++i) {
        const Vector c = all(of_h[i]);
        sum[i][0] = fmadd(c, left, sum[i][0]);
        sum[i][1] = fmadd(c, right, sum[i][1]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < G; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kWidth; ++v) y[i][v] = sum[i][v];
    }
  }
};

// Calls f with as many heads at a time as the registers hold, then with half as many, down to one.
template <int G = kHeadsAtOnce, class F>
inline void for_heads(int64_t heads, const F& f, int64_t g = 0) {
  for (; g + G <= heads; g += G) f(std::integral_constant<int, G>{}, g);
  if constexpr (G > 1) {
    if (g < heads) for_heads<G / 2>(heads, f, g);
  }
}

// Which columns of a tile hold tokens that take part.
struct Columns {
  int64_t count;    // columns in use, a multiple of kBlock
  int64_t tokens;   // of which hold a token
  const bool* mask;  // of the tile's tokens, or null

  Lanes lanes(int64_t t) const {
    const int64_t count = tokens - t;
    return mask == nullptr || count <= 0 ? first_lanes(count) : true_lanes(mask + t, count);
  }
};

// The heads of one block of columns, to be read while the block is written: where they lie if one step of
// for_heads takes them all, else a copy of them in `room`.
struct Block {
  const float* data;
  int64_t stride;

  Block(const Tile& x, int64_t l, int64_t t, float* room) : data(x.at(0, l, t)), stride(x.stride()) {
    if (x.heads <= kHeadsAtOnce && (x.heads & (x.heads - 1)) == 0) return;
    for (int64_t h = 0; h < x.heads; ++h) {
#pragma GCC unroll 2
      for (int v = 0; v < kWidth; ++v) store(room + h * kBlock + v * kLanes, load(x.at(h, l, t) + v * kLanes));
    }
    data = room;
    stride = kBlock;
  }
};

// Mixes the heads of one block of columns and hands each mixed vector, with its head, to `use`.
template <class Use>
inline void mix_block(const Mix& mix, const float* x, int64_t stride, const Use& use) {
  for_heads(mix.heads, [&](auto size, int64_t g) {
    constexpr int G = decltype(size)::value;
    Vector y[G][kWidth] = {};
    mix.template add<G>(x, stride, g, y);
#pragma GCC unroll 8
    for (int i = 0; i < G; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kWidth; ++v) use(g + i, v, y[i][v]);
    }
  });
}

// Mixes a tile; out may be the tile itself.
inline void mix_tile(const Tile& x, const Mix& mix, const Columns& columns, const Tile& out, float* room) {
  for (int64_t l = 0; l < x.rows; ++l) {
    for (int64_t t = 0; t < columns.count; t += kBlock) {
      const Block block(x, l, t, room);
      mix_block(
          mix, block.data, block.stride,
          [&](int64_t g, int v, Vector y) { store(out.at(g, l, t) + v * kLanes, y); });
    }
  }
}

}  // namespace crosshead
