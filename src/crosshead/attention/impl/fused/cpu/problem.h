// One call of the operator as the passes see it: its two sides, and how the work over their tokens is divided.
//
// Legend: B batch, H heads, N query tokens, M key tokens, L landmarks, D head dim, E value head dim, T tokens of a
// tile. Heads that never talk to each other are problems of their own: below this file B counts groups of heads, those
// of all samples, and H the heads of a group.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <optional>
#include <vector>

#include "softmax.h"

namespace crosshead {

using at::Tensor;
using Matrix = std::optional<Tensor>;  // (H, H) or (groups, H, H), the residual matrices of a mixing

// Bytes of one tile of a factor. A tile of logits, what packs it, and a sum over its tokens stay in the second cache.
constexpr int64_t kTileBytes = 192 * 1024;
constexpr int64_t kWidest = 256;

inline int64_t tile_width(int64_t heads, int64_t landmarks, int64_t tokens, int64_t tiles_at_once = 1) {
  const int64_t fitting = kTileBytes / (tiles_at_once * heads * landmarks * int64_t(sizeof(float)));
  const int64_t width = std::clamp(fitting / kBlock * kBlock, int64_t(kNarrowest), kWidest);
  return std::min(width, rounded_up(tokens, kBlock));
}

// Memory of one thread, handed out in lines of the cache. With no memory it counts what will be needed.
struct Room {
  char* base;
  int64_t used = 0;

  template <class T>
  T* take(int64_t count) {
    const int64_t first = used, end = first + count * int64_t(sizeof(T));
    used = rounded_up(end, 64) + (kChecked ? 64 : 0);
    if (base == nullptr) return nullptr;
    forbid(base + end, base + used);
    return reinterpret_cast<T*>(base + first);
  }
};

// The groups into which the heads of a call fall.
struct Groups {
  int64_t count, heads;

  Groups(int64_t all_heads, std::initializer_list<const Matrix*> matrices) : count(1), heads(all_heads) {
    const auto given = std::find_if(matrices.begin(), matrices.end(), [](const Matrix* x) { return x->has_value(); });
    if (given != matrices.end()) {
      heads = (**given)->size(-1);
    } else {
      while (heads > kHeadsAtOnce / 2 && heads % 2 == 0) heads /= 2;
    }
    count = all_heads / heads;
  }

  // Tokens (B, all heads, tokens, channels) where they lie.
  template <class T>
  Rows<T> rows_of(const Tensor& x) const {
    return {static_cast<T*>(x.data_ptr()), count, x.stride(0), heads * x.stride(1), x.stride(1), x.stride(2)};
  }

  // (..., B, all heads, rows, channels) as (..., B count, heads, rows, channels); with `channels` false they are absent.
  Tensor split(const Tensor& x, bool channels = true) const {
    const int64_t axis = x.dim() - (channels ? 4 : 3);
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[axis] *= count;
    sizes[axis + 1] = heads;
    return x.reshape(sizes);
  }
};

// Packed as A for a sum over the last axis: (B, H, rows, depth), the depth padded with zeros.
template <class T>
Tensor packed(const Tensor& x) {
  const Tensor operand = x.to(c10::CppTypeToScalarType<Operand<T>>::value);
  const int64_t missing = padded_depth<Operand<T>>(x.size(3)) - x.size(3);
  return missing ? at::constant_pad_nd(operand, {0, missing}) : operand.contiguous();
}

template <class T>
const Operand<T>* of_head(const Tensor& packed, int64_t b, int64_t h) {
  return packed.const_data_ptr<Operand<T>>() + (b * packed.size(1) + h) * packed.size(2) * packed.size(3);
}

// The coefficients [h, g] of `scale` times y_g = x_g + sum_h R[g, h] x_h, group by group. The gradient's are those of R
// transposed.
class Mixing {
 public:
  Mixing(const Matrix& residual, const Groups& groups, double scale, bool transposed = false)
      : scale_(scale), groups_(groups) {
    if (!residual) return;
    const int64_t heads = groups.heads;
    const Tensor matrices = residual->to(at::kFloat).contiguous();
    coefficients_ = at::empty({groups.count, heads, heads}, at::kFloat);
    for (int64_t i = 0; i < groups.count; ++i) {
      const float* from = matrices.const_data_ptr<float>() + i * heads * heads;
      float* to = coefficients_.data_ptr<float>() + i * heads * heads;
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t g = 0; g < heads; ++g) {
          const float r = transposed ? from[h * heads + g] : from[g * heads + h];
          to[h * heads + g] = float(((h == g) + double(r)) * scale);
        }
      }
    }
  }

  // How the heads of sample b are mixed.
  Mix operator()(int64_t b) const {
    const int64_t heads = groups_.heads, group = b % groups_.count;
    return {present() ? coefficients_.const_data_ptr<float>() + group * heads * heads : nullptr, float(scale_), heads};
  }

  bool present() const { return coefficients_.defined(); }

 private:
  double scale_;
  Groups groups_;
  Tensor coefficients_;
};

// The tokens of every sample in tiles, and the tiles in parts: as many as keep each thread busy, each part a run of
// tiles of one sample. Sums over tokens are kept part by part and added in order, so that it does not matter which
// thread was quicker.
struct Parts {
  int64_t samples, groups, tokens, width, tiles, per_sample;

  Parts(int64_t samples, int64_t groups, int64_t tokens, int64_t widest)
      : samples(samples), groups(groups), tokens(tokens) {
    const int64_t threads = at::get_num_threads();
    const int64_t blocks = (tokens + kBlock - 1) / kBlock;
    per_sample = samples ? std::min(blocks, threads / std::gcd(samples, threads)) : 0;
    // As many tiles for each part, so that no thread waits for another's odd one.
    const int64_t wanted = rounded_up((tokens + widest - 1) / widest, std::max<int64_t>(per_sample, 1));
    width = rounded_up((tokens + wanted - 1) / wanted, kBlock);
    tiles = (tokens + width - 1) / width;
    per_sample = std::min(per_sample, tiles);
  }

  int64_t count() const { return samples * per_sample; }

  // Calls work(room, part, sample, first tile, last tile) with the memory that `layout`, run on a Room, took.
  template <class Layout, class Work>
  void run(const Layout& layout, const Work& work) const {
    Room nothing{nullptr};
    layout(nothing);
    const Tensor memory = at::empty({at::get_num_threads(), nothing.used + 64}, at::kByte);
    at::parallel_for(0, count(), 1, [&](int64_t first, int64_t last) {
      char* mine = static_cast<char*>(memory.data_ptr()) + at::get_thread_num() * memory.size(1);
      mine += 64 - reinterpret_cast<uintptr_t>(mine) % 64;
      for (int64_t part = first; part < last; ++part) {
        Room room{mine};
        const auto state = layout(room);
        const int64_t b = part / per_sample, i = part % per_sample;
        work(state, part, b, i * tiles / per_sample, (i + 1) * tiles / per_sample);
      }
      at::native::cpublas::brgemm_release();
    });
  }

  // Asks for the tile after this one, in as many steps as a tile has blocks of `rows` rows.
  template <class T>
  Ahead<T> ahead(const Rows<const T>& tokens_of, int64_t b, int64_t heads, int64_t tile, int64_t channels, int64_t rows)
      const {
    const int64_t first = (tile + 1) * width, n = std::min(width, tokens - first);
    return {tokens_of, b, heads, first, n, channels, std::max<int64_t>(rows * (width / kBlock), 1)};
  }

  template <class T>
  AheadOfBoth<T> ahead(
      const Rows<const T>& one, int64_t channels, const Rows<const T>& other, int64_t other_channels, int64_t b,
      int64_t heads, int64_t tile, int64_t rows) const {
    return {ahead(one, b, heads, tile, channels, rows), ahead(other, b, heads, tile, other_channels, rows)};
  }

  Columns columns(int64_t b, int64_t tile, const bool* mask) const {
    const int64_t first = tile * width, n = std::min(width, tokens - first);
    return {rounded_up(n, kBlock), n, mask ? mask + b / groups * tokens + first : nullptr};
  }
};

// A sum over parts, (parts, ...) to (B, ...).
inline Tensor of_samples(const Tensor& sums, const Parts& parts) {
  if (parts.per_sample == 1) return sums;
  return sums.unflatten(0, {parts.samples, parts.per_sample}).sum(1);
}

inline const bool* mask_data(const std::optional<Tensor>& mask) {
  return mask ? mask->const_data_ptr<bool>() : nullptr;
}

// Which landmarks of a sample hold a token, or null.
inline const bool* landmarks_of(const bool* mask, const Parts& parts, int64_t b, int64_t landmarks) {
  return mask ? mask + b / parts.groups * landmarks : nullptr;
}

}  // namespace crosshead
